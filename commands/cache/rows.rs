//! Rows for programs.

use serde::Serialize;

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

/// So many of something.
pub(super) fn counted(count: usize, one: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {one}{many}")
}
