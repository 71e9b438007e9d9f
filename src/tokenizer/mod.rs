//! Text to token ids and back, and messages to prompts. Knows nothing of models or MLX.

mod chat;
mod companions;
mod pieces;
mod program;
mod python;
mod stream;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

use crate::error::{Error, Result, panic_text};
use crate::files::ModelFiles;
use companions::Companions;
use pieces::Pieces;

pub use chat::{Chat, ChatTemplate, Ending, Message};
pub use stream::{Special, StreamDecoder};

const TOKENIZER_FILE: &str = "tokenizer.json";

/// Whether [`Tokenizer::encode`] puts the beginning-of-sequence token first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bos {
    /// As the model's files say for raw text; never a second one.
    Auto,
    /// Only the text itself.
    Never,
}

/// A rendered and encoded chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What the template made of the messages.
    pub text: String,
    /// The ids of `text`; the template alone decides about the beginning-of-sequence token.
    pub tokens: Vec<u32>,
    /// Offsets in `tokens` where messages end, ascending.
    pub joints: Vec<usize>,
}

/// The vocabulary of one model, its special tokens and its chat template.
#[derive(Debug)]
pub struct Tokenizer {
    engine: tokenizers::Tokenizer,
    path: PathBuf,
    pieces: Pieces,
    eos_ids: Vec<u32>,
    bos_id: Option<u32>,
    /// What raw text begins with: nothing, or the beginning-of-sequence token.
    prefix: Vec<u32>,
    /// What the tokenizer's own post-processor puts behind a text.
    suffix: Vec<u32>,
    template: Option<Result<ChatTemplate, String>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and the files beside it that name special tokens and the chat
    /// template. A broken chat template is an error only once it is asked for.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without `tokenizer.json`, [`Error::Tokenizer`] where a file is not
    /// what it should be, [`Error::Io`].
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let path = files.path(TOKENIZER_FILE);
        let refuse = |problem: String| Error::Tokenizer {
            path: path.clone(),
            problem,
        };

        let bytes = files.require(TOKENIZER_FILE)?;
        let mut engine = caught(|| tokenizers::Tokenizer::from_bytes(&bytes))
            .map_err(|problem| refuse(diagnose(&bytes, &problem)))?;
        if engine.get_vocab_size(false) == 0 {
            return Err(refuse("the vocabulary is empty".to_owned()));
        }
        engine
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string()))?;
        engine.with_padding(None);

        let companions = Companions::read(files)?;
        let (added, suffix) = added_around_text(&engine).map_err(refuse)?;
        // Special tokens are put in by this type alone, and offsets must not be trimmed.
        engine.with_post_processor(None::<PostProcessorWrapper>);

        let bos_id = companions.bos_id(&engine)?.or(match added[..] {
            [id] => Some(id),
            _ => None,
        });
        let prefix = match companions.add_bos() {
            Some(true) => bos_id.into_iter().collect(),
            Some(false) => Vec::new(),
            None => added,
        };
        Ok(Self {
            pieces: Pieces::of(&engine),
            eos_ids: companions.eos_ids(&engine)?,
            bos_id,
            prefix,
            suffix,
            template: ChatTemplate::find(files, &companions)?,
            path,
            engine,
        })
    }

    /// The ids of raw text.
    ///
    /// Text that spells a special token becomes that token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, bos: Bos) -> Result<Vec<u32>> {
        let encoding = caught(|| self.engine.encode_fast(text, false))
            .map_err(|problem| self.refuse(problem))?;
        let ids = encoding.get_ids();
        if bos == Bos::Never || ids.starts_with(&self.prefix) {
            return Ok(ids.to_vec());
        }
        Ok([&self.prefix, ids].concat())
    }

    /// The ids of a text that stands for itself, with all that the model's files put around it: what models for
    /// embeddings read.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, Bos::Auto)?;
        ids.extend(&self.suffix);
        Ok(ids)
    }

    /// Renders and encodes a chat.
    ///
    /// # Errors
    /// [`Error::Template`] where the model has no usable template or the template refuses.
    pub fn encode_chat(&self, chat: &Chat) -> Result<Prompt> {
        let template = self.chat_template()?;
        let text = template.render(chat)?;
        let encoding = caught(|| self.engine.encode(text.as_str(), false))
            .map_err(|problem| self.refuse(problem))?;
        let offsets = encoding.get_offsets();

        let mut joints: Vec<usize> = template
            .message_ends(chat, &text)
            .into_iter()
            .filter_map(|end| {
                let tokens = offsets.partition_point(|(_, stop)| *stop <= end);
                let next = offsets.get(tokens).map_or(text.len(), |(start, _)| *start);
                (tokens > 0 && next >= end).then_some(tokens)
            })
            .collect();
        joints.dedup();
        Ok(Prompt {
            tokens: encoding.get_ids().to_vec(),
            joints,
            text,
        })
    }

    /// The text of `ids` taken together. Bytes that are no UTF-8 become U+FFFD, ids outside the
    /// vocabulary nothing.
    pub fn decode(&self, ids: &[u32], special: Special) -> String {
        stream::decode(self, ids, special)
    }

    /// The bytes that one token stands for, wherever it is; they need not be whole characters.
    /// `None` for an id outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        Some(self.pieces.bytes(&self.engine.id_to_token(id)?))
    }

    /// Whether the token is one of those that decoding hides unless asked not to.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.engine.get_added_vocabulary();
        added
            .simple_id_to_token(id)
            .is_some_and(|token| added.is_special_token(&token))
    }

    /// Tokens in the vocabulary, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.engine.get_vocab_size(true)
    }

    /// The tokens that end an answer.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The beginning-of-sequence token, whether or not raw text gets it.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// Whether the model comes with a chat template, usable or not.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`Error::Template`] where there is none, or where it is not one.
    pub fn chat_template(&self) -> Result<&ChatTemplate> {
        match &self.template {
            Some(Ok(template)) => Ok(template),
            Some(Err(problem)) => Err(Error::Template(problem.clone())),
            None => Err(Error::Template("the model has none".to_owned())),
        }
    }

    fn refuse(&self, problem: String) -> Error {
        Error::Tokenizer {
            path: self.path.clone(),
            problem,
        }
    }
}

/// Calls the tokenizers' library, which panics where a pattern gives up on a text and on some
/// damaged files.
fn caught<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic).to_owned()),
    }
}

/// What the tokenizer's own post-processor puts before a text, and behind it.
fn added_around_text(engine: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let encode = |special| {
        let encoding = caught(|| engine.encode_fast("a", special))?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let (plain, whole) = (encode(false)?, encode(true)?);
    let text_at = (0..whole.len()).find(|at| whole[*at..].starts_with(&plain));
    let Some(at) = text_at else {
        return Ok((Vec::new(), Vec::new()));
    };
    Ok((whole[..at].to_vec(), whole[at + plain.len()..].to_vec()))
}

/// Says in plain words what is wrong with a `tokenizer.json` that the engine refused.
fn diagnose(bytes: &[u8], refusal: &str) -> String {
    let json: Value = match serde_json::from_slice(bytes) {
        Ok(json) => json,
        Err(error) => return format!("not valid JSON: {error}"),
    };
    let vocabulary = json.pointer("/model/vocab");
    if vocabulary.is_none_or(|vocabulary| !vocabulary.is_object() && !vocabulary.is_array()) {
        return "there is no vocabulary at `model.vocab`".to_owned();
    }
    refusal.to_owned()
}
