//! One answer on stdout, as text or JSON, while it grows. Knows nothing of where it comes from.

use mlxr::Result;
use mlxr::engine::request::Finish;
use serde_json::json;

use super::answer::{Answer, Split};
use super::record::{self, Record};
use crate::args::Stats;
use crate::model::Description;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};

/// The form of what is written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The text of the answer as it comes.
    Text,
    /// One object at the end.
    Json,
    /// One object per event.
    JsonLines,
}

/// Writes one answer.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub(crate) printer: Printer,
    pub(crate) form: Form,
    pub(crate) stats: Option<Stats>,
    pub(crate) model: &'a Description,
}

impl Output<'_> {
    /// Writes what was added to the answer.
    pub(crate) fn grown(&self, added: &Split) -> Result<()> {
        match self.form {
            Form::Text => {
                self.printer.thinking(&added.thinking);
                printer::data(&added.answer)
            }
            Form::Json => Ok(()),
            Form::JsonLines => {
                let pieces = [("reasoning", &added.thinking), ("delta", &added.answer)];
                pieces
                    .iter()
                    .filter(|(_, text)| !text.is_empty())
                    .try_for_each(|(kind, text)| {
                        printer::data(&record::line(&json!({ "type": kind, "text": text })))
                    })
            }
        }
    }

    /// Writes what belongs after a complete answer, and says how it ended.
    pub(crate) fn complete(&self, answer: &Answer) -> Result<Exit> {
        match self.form {
            Form::Text if answer.text.is_empty() || answer.text.ends_with('\n') => {}
            Form::Text => printer::data("\n")?,
            Form::Json => printer::data(&record::line(&Record::answer(self.model, answer)))?,
            Form::JsonLines => {
                printer::data(&record::line(&Record::figures(self.model, answer).done()))?;
            }
        }
        printer::flush()?;
        self.figures(answer);
        if !matches!(answer.finish, Finish::Length | Finish::Memory) {
            return Ok(Exit::Success);
        }
        let tokens = answer.usage.completion;
        self.printer.talk(if answer.finish == Finish::Memory {
            format!("memory: stopped after {tokens} tokens, where memory ended (use --memory)")
        } else if answer.limit.is_some_and(|limit| tokens >= limit) {
            format!("length: stopped at {tokens} tokens (use -n)")
        } else {
            format!("length: stopped at the end of the context after {tokens} tokens (use --ctx)")
        });
        Ok(Exit::Length)
    }

    /// Ends the line of an answer that failed after `text`, so that the error gets its own.
    pub(crate) fn broken_off(&self, text: &str) -> Result<()> {
        if self.form == Form::Text && !text.is_empty() && !text.ends_with('\n') {
            printer::data("\n")?;
        }
        printer::flush()
    }

    /// Writes counts and times where they were asked for.
    pub(crate) fn figures(&self, answer: &Answer) {
        match self.stats {
            Some(Stats::Json) => {
                printer::figures(&record::line(&Record::figures(self.model, answer)));
            }
            Some(Stats::Text) => printer::say(record::summary(answer)),
            None => self.printer.detail(record::summary(answer)),
        }
    }
}
