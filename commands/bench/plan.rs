//! Which tests the arguments ask for. Measures nothing.

use mlxr::{Error, Result};

use crate::args::Bench;

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Tokens to generate, after the prompt if there is one.
    pub(crate) generate: usize,
    /// Tokens that are there before.
    pub(crate) depth: usize,
    /// Sequences of all this, computed together.
    pub(crate) sequences: usize,
}

impl Test {
    /// `pp512`, `tg128 @ d2048`, `pp512+tg128`.
    pub(crate) fn name(&self) -> String {
        let prompt = (self.prompt > 0).then(|| format!("pp{}", self.prompt));
        let generate = (self.generate > 0).then(|| format!("tg{}", self.generate));
        let parts: Vec<String> = prompt.into_iter().chain(generate).collect();
        let depth = match self.depth {
            0 => String::new(),
            depth => format!(" @ d{depth}"),
        };
        parts.join("+") + &depth
    }

    /// `pp`, `tg` or `pg`.
    pub(crate) fn kind(&self) -> &'static str {
        match (self.prompt, self.generate) {
            (_, 0) => "pp",
            (0, _) => "tg",
            _ => "pg",
        }
    }

    /// Tokens that are timed, in all sequences.
    pub(crate) fn tokens(&self) -> usize {
        (self.prompt + self.generate) * self.sequences
    }

    /// Tokens that a sequence has at the end.
    pub(crate) fn length(&self) -> usize {
        self.depth + self.prompt + self.generate
    }
}

/// The tests, in the order in which they are made: by depth, by sequences, prompts first.
///
/// # Errors
/// Where there are none.
pub(crate) fn tests(args: &Bench) -> Result<Vec<Test>> {
    let prompts = args.prompt.0.iter().map(|&prompt| (prompt, 0));
    let generates = args.generate.0.iter().map(|&generate| (0, generate));
    let both = args.pg.iter().map(|pair| (pair.prompt, pair.generate));
    let kinds: Vec<(usize, usize)> = prompts.chain(generates).chain(both).collect();
    let mut tests = Vec::new();
    for &depth in &args.depth.0 {
        for &sequences in &args.concurrency.0 {
            for &(prompt, generate) in &kinds {
                tests.push(Test {
                    prompt,
                    generate,
                    depth,
                    sequences,
                });
            }
        }
    }
    tests.retain(|test| test.tokens() > 0);
    if tests.is_empty() {
        return Err(Error::Benchmark {
            test: "bench".to_owned(),
            problem: "-p, -n, --pg and -b leave nothing to measure".to_owned(),
        });
    }
    Ok(tests)
}

/// Refuses what a model that holds `context` tokens cannot do, before anything is measured.
pub(crate) fn check(tests: &[Test], context: usize) -> Result<()> {
    match tests.iter().find(|test| test.length() > context) {
        Some(test) => Err(Error::Benchmark {
            test: test.name(),
            problem: format!(
                "{} tokens do not fit into the model's context of {context}",
                test.length()
            ),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{check, tests};
    use crate::args::{Cli, Command};

    fn names(words: &[&str]) -> mlxr::Result<Vec<String>> {
        let words = [&["mlxr", "bench"], words].concat();
        let Command::Bench(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("another command")
        };
        let name =
            |test: super::Test| format!("{}x{} {}", test.sequences, test.kind(), test.name());
        Ok(tests(&args)?.into_iter().map(name).collect())
    }

    #[test]
    fn tests_are_named_and_ordered_as_llama_bench_does() {
        assert_eq!(names(&[]).unwrap(), ["1xpp pp512", "1xtg tg128"]);
        assert_eq!(
            names(&["-p", "0", "-n", "4,8", "-b", "1,2", "-d", "0,16"]).unwrap(),
            [
                "1xtg tg4",
                "1xtg tg8",
                "2xtg tg4",
                "2xtg tg8",
                "1xtg tg4 @ d16",
                "1xtg tg8 @ d16",
                "2xtg tg4 @ d16",
                "2xtg tg8 @ d16",
            ]
        );
        let both = names(&[
            "-p", "0", "-n", "0", "--pg", "8,4", "--pg", "9,5", "-d", "1",
        ]);
        assert_eq!(both.unwrap(), ["1xpg pp8+tg4 @ d1", "1xpg pp9+tg5 @ d1"]);
        let nothing = names(&["-p", "0", "-n", "0"]).unwrap_err().to_string();
        assert!(nothing.contains("nothing to measure"), "{nothing}");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let test = super::Test {
            prompt: 8,
            generate: 0,
            depth: 57,
            sequences: 1,
        };
        let refusal = check(&[test], 64).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "pp8 @ d57: 65 tokens do not fit into the model's context of 64"
        );
        check(&[test], 65).unwrap();
    }
}
