//! The table of exit codes; which error leads to which is not known here.

use std::process::ExitCode;

/// How the program ends. The discriminant is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    Gate = 1,
    Usage = 2,
    Length = 3,
    Context = 4,
    Missing = 6,
    Corrupt = 7,
    Network = 9,
    Internal = 70,
    Interrupted = 130,
    BrokenPipe = 141,
}

impl Exit {
    const ALL: [Self; 11] = [
        Self::Success,
        Self::Gate,
        Self::Usage,
        Self::Length,
        Self::Context,
        Self::Missing,
        Self::Corrupt,
        Self::Network,
        Self::Internal,
        Self::Interrupted,
        Self::BrokenPipe,
    ];

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The way that a program with this code has ended.
    pub(crate) fn of_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }

    /// One word for machines: the `kind` of an error in JSON.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// The table: a word for machines and a phrase for people.
    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Success => ("success", "finished by the model or at a stop string"),
            Self::Gate => (
                "gate",
                "measured worse than --fail-if or --max-kld allows, or a difference was found",
            ),
            Self::Usage => ("usage", "the arguments or the input mean nothing"),
            Self::Length => (
                "length",
                "stopped by the length limit or the end of memory (the text is printed)",
            ),
            Self::Context => (
                "context",
                "the prompt does not fit into the context, or into the memory",
            ),
            Self::Missing => (
                "missing",
                "a model, file or device is missing or out of reach",
            ),
            Self::Corrupt => ("corrupt", "a model's files are damaged or not supported"),
            Self::Network => ("network", "the hub did not answer"),
            Self::Internal => ("internal", "internal error"),
            Self::Interrupted => (
                "interrupted",
                "interrupted by Ctrl-C (what exists is printed)",
            ),
            Self::BrokenPipe => ("pipe", "the reader of standard output went away"),
        }
    }

    /// The table as a section of the help.
    pub(crate) fn help() -> String {
        let rows = Self::ALL.map(|exit| format!("  {:>3}  {}", exit.code(), exit.row().1));
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_and_names_are_distinct_and_in_order() {
        let codes = Exit::ALL.map(Exit::code);
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        let mut names = Exit::ALL.map(Exit::name);
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
