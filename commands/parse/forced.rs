//! Calls that a model has to make: what it must write then, as its family does. Knows no grammar.

use serde_json::{Value, json};

use super::{Family, Tool};

/// A call, as JSON between two texts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forced {
    pub(crate) before: &'static str,
    /// Describes the JSON.
    pub(crate) schema: Value,
    pub(crate) after: &'static str,
}

impl Family {
    /// The call of one of these tools. `None` where the family writes calls in another way than as JSON between
    /// texts, or no way is known.
    pub(crate) fn forced_call(self, tools: &[Tool]) -> Option<Forced> {
        let (before, arguments, after) = match self {
            // The three read each other's calls.
            Self::Hermes | Self::QwenXml | Self::Glm => {
                ("<tool_call>\n", "arguments", "\n</tool_call>")
            }
            Self::Llama3 => ("", "parameters", ""),
            Self::Plain
            | Self::Think
            | Self::Mistral
            | Self::Harmony
            | Self::Gemma4
            | Self::Cohere
            | Self::Glimmer
            | Self::DeepSeek => return None,
        };
        let call = |tool: &Tool| {
            let parameters = match &tool.parameters {
                Value::Null => json!({"type": "object"}),
                parameters => parameters.clone(),
            };
            json!({
                "type": "object",
                "properties": {"name": {"const": tool.name}, arguments: parameters},
                "required": ["name", arguments],
                "additionalProperties": false,
            })
        };
        let calls: Vec<Value> = tools.iter().map(call).collect();
        Some(Forced {
            before,
            schema: json!({"anyOf": calls}),
            after,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Call, Parser, Part};
    use super::{Family, Tool};

    #[test]
    fn a_forced_call_is_one_that_the_family_reads() {
        let tool = Tool {
            name: "f".to_owned(),
            parameters: json!({"type": "object", "properties": {"x": {"type": "integer"}}}),
        };
        for family in [Family::Hermes, Family::QwenXml, Family::Glm, Family::Llama3] {
            let forced = family.forced_call(std::slice::from_ref(&tool)).unwrap();
            let properties = &forced.schema["anyOf"][0]["properties"];
            let (name, arguments) = (
                &properties["name"]["const"],
                properties.as_object().unwrap(),
            );
            let second = arguments.keys().nth(1).unwrap();
            assert_eq!(arguments[second], tool.parameters);
            let json = json!({"name": name, second: {"x": 1}});
            let text = format!("{}{json}{}", forced.before, forced.after);
            let mut parser = Parser::new(family, "", vec![tool.clone()]);
            let mut parts = parser.push(&text);
            parts.extend(parser.finish(true));
            let arguments = json!({"x": 1}).as_object().unwrap().clone();
            let name = "f".to_owned();
            assert_eq!(parts, [Part::Call(Call { name, arguments })], "{family:?}");
        }
        assert_eq!(Family::Harmony.forced_call(&[tool]), None);
    }
}
