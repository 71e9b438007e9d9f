//! What a model says of itself that was trained for embeddings: the files of sentence-transformers beside it.

use serde_json::Value;

use super::Config;
use crate::error::Result;
use crate::files::ModelFiles;

/// Which parts the model is made of.
const MODULES: &str = "modules.json";

/// How the states of its tokens become one.
const POOLING: &str = "1_Pooling/config.json";

/// How texts become embeddings: the state after the last token stands for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// Whether that is divided by its length.
    pub is_normalized: bool,
}

impl EmbeddingConfig {
    /// `None` where the model does not say that it was trained for embeddings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where it was, in a way that is not known here, or its files are not
    /// what they should be.
    pub fn read(files: &ModelFiles) -> Result<Option<Self>> {
        let Some(bytes) = files.read(MODULES)? else {
            return Ok(None);
        };
        let about = |problem: String| Config::of_path(files.path(MODULES)).problem(problem);
        let modules: Vec<Value> =
            serde_json::from_slice(&bytes).map_err(|error| about(error.to_string()))?;
        let kind = |module: &Value| {
            let kind = module.get("type").and_then(Value::as_str);
            let name = kind.and_then(|kind| kind.rsplit('.').next());
            name.unwrap_or_default().to_owned()
        };
        let kinds: Vec<String> = modules.iter().map(kind).collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let is_normalized = match kinds[..] {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let made = kinds.join(", ");
                return Err(about(format!("models made of {made} are not supported")));
            }
        };
        let pooling = Config::parse(files.path(POOLING), &files.require(POOLING)?)?;
        if !pooling.flag_or("pooling_mode_lasttoken", false)? || others(&pooling) {
            let problem = "only `pooling_mode_lasttoken` is supported";
            return Err(pooling.problem(problem.to_owned()));
        }
        Ok(Some(Self { is_normalized }))
    }
}

/// Whether another way of pooling is asked for as well.
fn others(pooling: &Config) -> bool {
    let mut fields = pooling.fields.iter();
    fields.any(|(field, value)| {
        field.starts_with("pooling_mode_")
            && field != "pooling_mode_lasttoken"
            && *value == Value::Bool(true)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{EmbeddingConfig, MODULES, POOLING};
    use crate::files::ModelFiles;

    /// What a model with these files says.
    fn read(modules: &str, pooling: &str) -> Result<Option<EmbeddingConfig>, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MODULES), modules).unwrap();
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        fs::write(folder.path().join(POOLING), pooling).unwrap();
        let files = ModelFiles::Folder(folder.path().to_path_buf());
        EmbeddingConfig::read(&files).map_err(|error| error.to_string())
    }

    const LAST: &str = r#"{"word_embedding_dimension": 8, "pooling_mode_lasttoken": true, "include_prompt": true}"#;

    fn modules(kinds: &[&str]) -> String {
        let modules = kinds
            .iter()
            .map(|kind| format!(r#"{{"idx": 0, "type": "sentence_transformers.models.{kind}"}}"#));
        format!("[{}]", modules.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_last_token_stands_for_the_text() {
        let plain = read(&modules(&["Transformer", "Pooling"]), LAST);
        assert_eq!(
            plain,
            Ok(Some(EmbeddingConfig {
                is_normalized: false
            }))
        );
        let normalized = read(&modules(&["Transformer", "Pooling", "Normalize"]), LAST);
        assert_eq!(
            normalized,
            Ok(Some(EmbeddingConfig {
                is_normalized: true
            }))
        );
        let none = ModelFiles::Embedded("none", &[]);
        assert_eq!(EmbeddingConfig::read(&none).unwrap(), None);
    }

    #[test]
    fn what_is_done_in_another_way_is_refused_by_name() {
        let dense = read(&modules(&["Transformer", "Pooling", "Dense"]), LAST).unwrap_err();
        assert!(dense.contains("Transformer, Pooling, Dense"), "{dense}");
        let known = modules(&["Transformer", "Pooling"]);
        for pooling in [
            r#"{"pooling_mode_mean_tokens": true}"#,
            r#"{"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": true}"#,
            "{}",
        ] {
            let refused = read(&known, pooling).unwrap_err();
            assert!(refused.contains("pooling_mode_lasttoken"), "{refused}");
        }
        assert!(read("{", LAST).unwrap_err().contains("modules.json"));
    }
}
