//! What `org/name[@revision]` may be made of; knows nothing of files or the network.

use std::fmt;

use crate::error::{Error, Result};

/// The branch that is meant where no revision is given.
const DEFAULT_REVISION: &str = "main";

/// The longest name that the hub gives to a repository, in bytes, as its own client checks it.
const LONGEST_ID: usize = 96;

/// A repository on the hub at one revision.
///
/// Both parts are safe in a path and, once `/` is escaped, in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// `org/name`.
    pub(super) id: String,
    /// Branch, tag or commit.
    pub(super) revision: String,
}

impl Repository {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let parts = id.split('/').collect::<Vec<_>>();
        let good_id = parts.len() == 2
            && id.len() <= LONGEST_ID
            && !id.contains("--")
            && parts
                .iter()
                .all(|part| is_plain(part) && !part.starts_with('-'));
        let good_revision = revision.split('/').all(is_plain);
        if !good_id || !good_revision {
            return Err(Error::ModelNotFound {
                name: text.to_owned(),
                reason: "a model is a folder, or `org/name[@revision]` on the hub".to_owned(),
            });
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.id)?;
        if self.revision != DEFAULT_REVISION {
            write!(formatter, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a text can be one component of a path without surprise: ASCII letters, digits, `.`,
/// `_` and `-`, not hidden, not a way up.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && !text.contains("..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether a revision names a commit in full.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::Repository;

    #[test]
    fn accepts_names_and_revisions() {
        for (text, id, revision) in [
            ("org/name", "org/name", "main"),
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "main"),
            ("o_r-g/n.a-m_e@v1.0", "o_r-g/n.a-m_e", "v1.0"),
            ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ] {
            let repository = Repository::parse(text).unwrap();
            assert_eq!(
                (repository.id.as_str(), repository.revision.as_str()),
                (id, revision)
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("org/{}", "n".repeat(93));
        for text in [
            "",
            "name",
            "org/",
            "/name",
            "org/name/more",
            "org/..",
            "../name",
            "org/.hidden",
            "-org/name",
            "org/a--b",
            "org/na me",
            "org/näme",
            "org/name@",
            "org/name@../x",
            "org/name@a//b",
            "org/name@/a",
            "org/name@a\nb",
            "org/name@a@b",
            "org/a?b",
            "org/a%2Fb",
            "org\\name",
            "http://host/x",
            &long,
        ] {
            let error = Repository::parse(text).unwrap_err().to_string();
            assert!(error.contains("`org/name[@revision]`"), "{text}: {error}");
        }
    }

    #[test]
    fn shows_the_revision_only_where_one_was_asked_for() {
        for text in ["org/name", "org/name@v1"] {
            assert_eq!(Repository::parse(text).unwrap().to_string(), text);
        }
    }
}
