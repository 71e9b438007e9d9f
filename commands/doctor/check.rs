//! One thing that was looked at: what was found and what that means. Knows nothing of what it is.

use std::fmt;

use indicatif::BinaryBytes;
use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// One line.
    pub(super) found: String,
    /// What to do, where there is something to do.
    pub(super) advice: Option<String>,
}

/// What it means, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Something could be better.
    Note,
    /// It keeps `mlxr` from computing.
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        })
    }
}

impl Check {
    /// As it should be.
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name.into(), Verdict::Ok, &found.into(), None)
    }

    /// Something could be better.
    pub(super) fn note(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(
            name.into(),
            Verdict::Note,
            &found.into(),
            Some(advice.into()),
        )
    }

    /// It keeps `mlxr` from computing.
    pub(super) fn problem(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(
            name.into(),
            Verdict::Problem,
            &found.into(),
            Some(advice.into()),
        )
    }

    /// What a library says may have several lines.
    fn new(name: String, verdict: Verdict, found: &str, advice: Option<String>) -> Self {
        Self {
            name,
            verdict,
            found: found.replace(char::is_control, " "),
            advice,
        }
    }
}

/// Bytes in words.
pub(super) fn size(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}
