//! What an answer must look like: from a flag or a field to what the engine takes. Knows nothing of prompts.

use std::fs;

use mlxr::constraint::Constraint;
use mlxr::{Error, Result};
use serde_json::Value;

use crate::args::ConstraintArgs;

/// As the flags say; a schema may be in a file.
///
/// # Errors
/// [`Error::Io`] where there is no such file, [`Error::Request`] where it is not JSON.
pub(crate) fn of_flags(flags: &ConstraintArgs) -> Result<Option<Constraint>> {
    let schema = flags.schema.as_deref().map(schema).transpose()?;
    let choices = flags.choices.clone().map(|choices| choices.0);
    of(schema, choices)
}

/// As a request says that has these fields.
///
/// # Errors
/// [`Error::Request`] where it has both.
pub(crate) fn of(
    schema: Option<Value>,
    choices: Option<Vec<String>>,
) -> Result<Option<Constraint>> {
    match (schema, choices) {
        (Some(_), Some(_)) => Err(Error::Request {
            field: "choices",
            problem: "given together with `schema`".to_owned(),
        }),
        (Some(schema), None) => Ok(Some(Constraint::JsonSchema(schema))),
        (None, choices) => Ok(choices.map(Constraint::Choices)),
    }
}

/// A schema that is written there, or in the file that is named there.
fn schema(text: &str) -> Result<Value> {
    let refuse = |problem: String| Error::Request {
        field: "schema",
        problem,
    };
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| refuse(format!("not JSON: {error}")));
    }
    let bytes = fs::read(text).map_err(Error::io("read", text))?;
    serde_json::from_slice(&bytes).map_err(|error| refuse(format!("{text} is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Constraint, of_flags};
    use crate::args::ConstraintArgs;

    #[test]
    fn a_schema_is_written_out_or_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = |schema: &str| {
            let schema = Some(schema.to_owned());
            let choices = None;
            of_flags(&ConstraintArgs { schema, choices })
        };
        let named = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            said(file.path().to_str().unwrap())
        };
        let wanted = Some(Constraint::JsonSchema(json!({"type": "null"})));
        assert_eq!(said(" {\"type\": \"null\"}").unwrap(), wanted);
        assert_eq!(named("{\"type\": \"null\"}\n").unwrap(), wanted);
        for (refused, wanted) in [
            (said("{\"type\": }"), "schema: not JSON"),
            (
                named("type: null"),
                &format!("schema: {} is not JSON", file.path().display()),
            ),
            (
                said("no/such/file.json"),
                "could not read no/such/file.json",
            ),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
