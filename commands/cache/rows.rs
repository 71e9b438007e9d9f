//! Rows for programs, and which prefixes are shown.

use serde::Serialize;

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// An array.
pub(super) fn json(rows: &[impl Serialize]) -> String {
    // Rows have string keys and finite numbers only, so they cannot fail.
    format!("{:#}\n", serde_json::to_value(rows).unwrap_or_default())
}

/// One line for each, under a line of names.
pub(super) fn tabs(rows: &[impl Serialize]) -> String {
    let mut lines = String::new();
    for row in rows {
        let value = serde_json::to_value(row).unwrap_or_default();
        let fields = value.as_object().cloned().unwrap_or_default();
        if lines.is_empty() {
            lines = fields.keys().cloned().collect::<Vec<_>>().join("\t") + "\n";
        }
        let cells = fields.values().map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.escape_debug().to_string(),
            other => other.to_string(),
        });
        lines += &(cells.collect::<Vec<_>>().join("\t") + "\n");
    }
    lines
}

/// Which prefixes have the text that is looked for, or lead to one that has; all where none is. `parents` are their
/// places among them.
pub(super) fn shown<'a>(
    wanted: Option<&str>,
    parents: &[Option<usize>],
    text: impl Fn(usize) -> Option<&'a str>,
) -> Vec<bool> {
    let Some(wanted) = wanted else {
        return vec![true; parents.len()];
    };
    let mut shown = vec![false; parents.len()];
    for index in 0..parents.len() {
        let has = text(index).is_some_and(|text| text.contains(wanted));
        let mut next = has.then_some(index);
        // A server's answer may name any place.
        while let Some(index) = next.filter(|&index| shown.get(index) == Some(&false)) {
            shown[index] = true;
            next = parents[index];
        }
    }
    shown
}

/// How a text begins, as it stands behind what is told of a prefix.
pub(super) fn beginning(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).collect();
    format!("  {start:?}")
}

/// So many of something.
pub(super) fn counted(count: usize, one: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {one}{many}")
}
