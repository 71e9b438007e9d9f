//! The tools that a model was offered; knows nothing of how it calls them.

use serde_json::Value;

/// A tool that a model was offered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// The JSON schema of its arguments, null where there is none.
    pub(crate) parameters: Value,
}

impl Tool {
    /// From `{"type": "function", "function": {"name": …, "parameters": …}}`, or from the inner
    /// object alone; none where that names no function.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let function = value.get("function").unwrap_or(value);
        let name = function.get("name")?.as_str()?;
        let parameters = function.get("parameters").cloned();
        (!name.is_empty()).then(|| Self {
            name: name.to_owned(),
            parameters: parameters.unwrap_or_default(),
        })
    }
}

/// All tools that a model was offered.
#[derive(Debug, Clone)]
pub(super) struct Tools(pub(super) Vec<Tool>);

impl Tools {
    pub(super) fn find(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Tool;
    use serde_json::{Value, json};

    #[test]
    fn a_tool_is_read_from_its_description() {
        let schema = json!({"type": "object"});
        let function = json!({"name": "f", "parameters": schema});
        let tool = Tool::of(&json!({"type": "function", "function": function})).unwrap();
        assert_eq!((tool.name.as_str(), &tool.parameters), ("f", &schema));
        assert_eq!(Tool::of(&function), Some(tool));
        assert_eq!(
            Tool::of(&json!({"name": "g"})).unwrap().parameters,
            Value::Null
        );
        for wrong in [json!({}), json!({"function": {"name": ""}}), json!("f")] {
            assert_eq!(Tool::of(&wrong), None);
        }
    }
}
