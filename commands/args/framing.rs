//! The arguments that say what is put around a prompt.

use clap::{Args, ValueEnum};
use serde_json::Value;

/// What is put around a prompt.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct FramingArgs {
    /// System message
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Send the prompt as it is, without chat template, and print all that the model produces
    #[arg(
        long,
        conflicts_with_all = ["system", "template_arg", "think", "prefill"],
    )]
    pub(crate) raw: bool,
    /// Begin the answer with TEXT (it is not printed again)
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefill: Option<String>,
    /// Let the model think, or not [default: the model's]
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on",
    )]
    pub(crate) think: Option<Think>,
    /// Variable for the chat template; VALUE is JSON or else text (repeatable)
    #[arg(
        long,
        value_name = "KEY=VALUE",
        value_parser = template_arg,
    )]
    pub(crate) template_arg: Vec<(String, Value)>,
}

/// Whether and how much a model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Think {
    On,
    Off,
    Low,
    Medium,
    High,
}

impl Think {
    /// The variables by which chat templates know it.
    pub(crate) fn template_args(self) -> Vec<(&'static str, Value)> {
        let effort = match self {
            Self::On | Self::Off => None,
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        };
        let mut args = vec![("enable_thinking", Value::from(self != Self::Off))];
        args.extend(effort.map(|effort| ("reasoning_effort", Value::from(effort))));
        args
    }
}

fn template_arg(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::template_arg;

    #[test]
    fn template_arguments_are_json_or_else_text() {
        assert_eq!(template_arg("a=true").unwrap(), ("a".into(), json!(true)));
        assert_eq!(template_arg("a=b=c").unwrap(), ("a".into(), json!("b=c")));
        assert_eq!(template_arg("a=").unwrap(), ("a".into(), json!("")));
        assert!(template_arg("a").is_err());
    }
}
