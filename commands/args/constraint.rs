//! The arguments that say what an answer must look like.

use clap::Args;

/// What an answer must look like, as it is typed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Answer")]
pub(crate) struct ConstraintArgs {
    /// Answer with JSON that this JSON schema describes: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON", conflicts_with = "choices")]
    pub(crate) schema: Option<String>,
    /// Answer with one of these texts, separated by commas
    #[arg(long, value_name = "A,B,C", value_parser = choices)]
    pub(crate) choices: Option<Choices>,
}

/// The texts among which an answer is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choices(pub(crate) Vec<String>);

fn choices(list: &str) -> Result<Choices, String> {
    let choices: Vec<String> = list
        .split(',')
        .map(|choice| choice.trim().to_owned())
        .collect();
    if choices.iter().any(String::is_empty) {
        return Err("one of the texts is empty".to_owned());
    }
    Ok(Choices(choices))
}

#[cfg(test)]
mod tests {
    use super::choices;

    #[test]
    fn choices_are_separated_by_commas() {
        assert_eq!(
            choices("yes,no way, maybe").unwrap().0,
            ["yes", "no way", "maybe"]
        );
        for list in ["", "yes,", ",", "yes,,no"] {
            assert!(choices(list).is_err(), "{list:?}");
        }
    }
}
