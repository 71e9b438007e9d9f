//! Whether and how much a model is to think, as variables of its chat template.

use serde_json::{Map, Value};

use crate::wire::Failure;

/// How much, in the words of all dialects, the least first.
const LEVELS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// It is to think, or it is not.
pub(super) fn switched(is_on: bool) -> Map<String, Value> {
    Map::from_iter([("enable_thinking".to_owned(), is_on.into())])
}

/// It is to think so much; `name` is the field that says so.
///
/// # Errors
/// Where it is no level.
pub(super) fn level(name: &str, level: &str) -> Result<Map<String, Value>, Failure> {
    if !LEVELS.contains(&level) {
        let problem = format!("`{level}` is none of {}", LEVELS.join(", "));
        return Err(Failure::field(name, problem));
    }
    let is_on = level != "none";
    let mut variables = switched(is_on);
    if is_on {
        variables.insert("reasoning_effort".to_owned(), level.into());
    }
    Ok(variables)
}
