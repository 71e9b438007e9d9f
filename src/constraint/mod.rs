//! What an answer must look like, and which tokens lead there. Knows nothing of models, steps or requests.

mod grammar;
mod guide;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use vocabulary::Vocabulary;

pub use guide::Guide;

/// The stack on which a constraint is compiled: what the parts of a schema that refer to each other take is
/// bounded by the size of a schema, and this is enough for it. Only what is used of it is memory.
const STACK: usize = 256 << 20;

/// How long that may take. Most take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Constraints that took longer and are still being compiled: nothing can be done about them but to take no more.
const MOST_LATE: usize = 2;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A JSON object, whatever is in it.
    JsonObject,
    /// JSON that this schema describes. Where it names properties, they come in its order.
    JsonSchema(Value),
    /// JSON that a schema describes, between two texts: how models call tools.
    Framed {
        /// Comes before it.
        before: String,
        /// Describes it.
        schema: Value,
        /// Comes after it.
        after: String,
    },
    /// A text all of which this regular expression matches.
    Regex(String),
    /// A text of this grammar, in the form of Lark that `llguidance` reads.
    Lark(String),
    /// One of these texts.
    Choices(Vec<String>),
}

/// Makes guides along constraints for the tokens of one vocabulary.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    /// Made when it is first needed.
    vocabulary: OnceLock<Result<Arc<Vocabulary>, String>>,
    /// The threads that nobody waits for any more.
    late: Mutex<Vec<JoinHandle<()>>>,
}

impl Grammars {
    /// For the tokens of `tokenizer`.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            vocabulary: OnceLock::new(),
            late: Mutex::default(),
        }
    }

    /// A guide along a constraint. Where `after` is a text, the constraint begins once the answer holds it.
    ///
    /// # Errors
    /// [`Error::Request`] where the constraint means nothing, asks for what is not supported, or is too large:
    /// it is followed to the letter or not at all.
    pub fn guide(&self, constraint: &Constraint, after: Option<&str>) -> Result<Guide> {
        if after == Some("") {
            return Err(Error::Request {
                field: "constraint_after",
                problem: "an empty text is nowhere".to_owned(),
            });
        }
        self.compile(constraint, after)
            .map_err(|problem| Error::Request {
                field: "constraint",
                problem: format!("{} cannot be followed: {problem}", constraint.name()),
            })
    }

    fn compile(&self, constraint: &Constraint, after: Option<&str>) -> Result<Guide, String> {
        let grammar = grammar::of(constraint)?;
        let vocabulary = self
            .vocabulary
            .get_or_init(|| Vocabulary::new(&self.tokenizer).map(Arc::new));
        let vocabulary = Arc::clone(vocabulary.as_ref().map_err(String::clone)?);
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.retain(|thread| !thread.is_finished());
        if late.len() >= MOST_LATE {
            return Err("others are still being compiled that take long".to_owned());
        }
        drop(late);

        let (sender, receiver) = sync_channel(1);
        let after = after.map(str::to_owned);
        let thread = thread::Builder::new()
            .name("constraint".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // Nobody may be waiting any more.
                drop(sender.send(Guide::new(vocabulary, grammar, after)));
            });
        let thread = thread.map_err(|error| format!("no thread for it: {error}"))?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(guide) => guide,
            Err(RecvTimeoutError::Disconnected) => Err("it breaks the compiler".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                late.push(thread);
                Err(format!("it takes more than {PATIENCE:?} to compile"))
            }
        }
    }
}

impl Constraint {
    /// What it is, in words.
    fn name(&self) -> &'static str {
        match self {
            Self::JsonObject => "JSON",
            Self::JsonSchema(_) | Self::Framed { .. } => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) => "the grammar",
            Self::Choices(_) => "the list of choices",
        }
    }
}
