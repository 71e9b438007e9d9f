//! Text to token ids and back, and messages to prompts. Knows nothing of models or MLX.

mod bpe;
mod chat;
mod companions;
mod engine;
mod pieces;
mod program;
mod python;
mod stream;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::files::ModelFiles;
use companions::Companions;
use engine::{Engine, Loaded};

pub use bpe::Spanned;
pub use chat::{Chat, ChatTemplate, Ending, Message};
pub use engine::{Choice, TokenizerOptions};
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
    loaded: Loaded,
    path: PathBuf,
    eos_ids: Vec<u32>,
    bos_id: Option<u32>,
    /// What raw text begins with: nothing, or the beginning-of-sequence token.
    prefix: Vec<u32>,
    template: Option<Result<ChatTemplate, String>>,
}

/// What may go wrong with `tokenizer.json`.
enum Trouble {
    Files(Error),
    Content(String),
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Content(problem)
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and the files beside it that name special tokens and the chat
    /// template. A broken chat template is an error only once it is asked for.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without `tokenizer.json`, [`Error::Tokenizer`] where a file is not
    /// what it should be, [`Error::Io`].
    pub fn load(files: &ModelFiles) -> Result<Self> {
        Self::load_with(files, &TokenizerOptions::default())
    }

    /// Likewise, as the options say.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(files: &ModelFiles, options: &TokenizerOptions) -> Result<Self> {
        let path = files.path(TOKENIZER_FILE);
        let json = || files.require(TOKENIZER_FILE).map_err(Trouble::Files);
        let loaded = Loaded::new(&path, json, options).map_err(|trouble| match trouble {
            Trouble::Files(error) => error,
            Trouble::Content(problem) => Error::Tokenizer {
                path: path.clone(),
                problem,
            },
        })?;
        let companions = Companions::read(files)?;
        let id = |name: &str| loaded.id(name);
        let bos_id = companions.bos_id(id)?.or(match loaded.before[..] {
            [id] => Some(id),
            _ => None,
        });
        let prefix = match companions.add_bos() {
            Some(true) => bos_id.into_iter().collect(),
            Some(false) => Vec::new(),
            None => loaded.before.clone(),
        };
        Ok(Self {
            eos_ids: companions.eos_ids(id)?,
            bos_id,
            prefix,
            template: ChatTemplate::find(files, &companions)?,
            path,
            loaded,
        })
    }

    /// The ids of raw text.
    ///
    /// Text that spells a special token becomes that token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, bos: Bos) -> Result<Vec<u32>> {
        let mut ids = self
            .loaded
            .encode(text)
            .map_err(|problem| self.refuse(problem))?;
        if bos == Bos::Auto && !ids.starts_with(&self.prefix) {
            ids.splice(0..0, self.prefix.iter().copied());
        }
        Ok(ids)
    }

    /// The ids of raw text without anything before it, and which bytes of the text each comes from.
    ///
    /// Where special tokens are hidden from the text, what spells one is text like any other.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_spanned(&self, text: &str, special: Special) -> Result<Vec<Spanned>> {
        let spans = self.loaded.encode_spanned(text, special == Special::Show);
        spans.map_err(|problem| self.refuse(problem))
    }

    /// How many tokens raw text has, with nothing before it: those of [`Self::encode_spanned`], in less memory.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn count(&self, text: &str, special: Special) -> Result<usize> {
        let count = self.loaded.count(text, special == Special::Show);
        count.map_err(|problem| self.refuse(problem))
    }

    /// Where the beginning of a text may be cut at last, so that what is before and what is behind, of which `text` has
    /// but a part, have the tokens of the whole. `None` where no such place is known.
    pub fn last_cut(&self, text: &str) -> Option<usize> {
        self.loaded.last_cut(text)
    }

    /// What raw text begins with: nothing, or the beginning-of-sequence token.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The ids of a text that stands for itself, with all that the model's files put around it: what models for
    /// embeddings read.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, Bos::Auto)?;
        ids.extend(&self.loaded.behind);
        Ok(ids)
    }

    /// Renders and encodes a chat.
    ///
    /// # Errors
    /// [`Error::Template`] where the model has no usable template or the template refuses.
    pub fn encode_chat(&self, chat: &Chat) -> Result<Prompt> {
        let template = self.chat_template()?;
        let text = template.render(chat)?;
        let spans = self.encode_spanned(&text, Special::Show)?;
        let mut joints: Vec<usize> = template
            .message_ends(chat, &text)
            .into_iter()
            .filter_map(|end| {
                let tokens = spans.partition_point(|span| span.end <= end);
                let next = spans.get(tokens).map_or(text.len(), |span| span.begin);
                (tokens > 0 && next >= end).then_some(tokens)
            })
            .collect();
        joints.dedup();
        Ok(Prompt {
            tokens: spans.into_iter().map(|span| span.token).collect(),
            joints,
            text,
        })
    }

    /// The text of `ids` taken together. Bytes that are no UTF-8 become U+FFFD, ids outside the
    /// vocabulary nothing.
    pub fn decode(&self, ids: &[u32], special: Special) -> String {
        stream::decode(self, ids, special)
    }

    /// The bytes that `ids` stand for taken together, whether or not they are whole characters; ids outside the
    /// vocabulary are nothing.
    pub fn decode_bytes(&self, ids: &[u32], special: Special) -> Vec<u8> {
        stream::decode_bytes(self, ids, special)
    }

    /// The bytes that one token stands for, wherever it is; they need not be whole characters.
    /// `None` for an id outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.loaded.bytes(id)
    }

    /// Whether the token is one of those that decoding hides unless asked not to.
    pub fn is_special(&self, id: u32) -> bool {
        self.loaded.token(id).special
    }

    /// Tokens in the vocabulary, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.loaded
            .tokens
            .iter()
            .filter(|token| token.exists)
            .count()
    }

    /// Why the reference engine does the work, where it does.
    pub fn reference_reason(&self) -> Option<&'static str> {
        match &self.loaded.engine {
            Engine::Own(_) => None,
            Engine::Reference(reference) => Some(reference.why),
        }
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
