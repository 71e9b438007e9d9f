//! Who turns text into ids: our own encoder, or the library that is the reference, where a vocabulary is none of those
//! that ours knows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

use super::bpe::{self, Built, Encoder, Spanned, Spelled, Token, Vocabulary};
use super::pieces::Pieces;
use crate::error::panic_text;

/// Ids that a tokenizer may have, which are kept in a table with a place for each.
const MOST_IDS: usize = 1 << 24;

/// How a tokenizer is loaded.
#[derive(Debug, Clone, Default)]
pub struct TokenizerOptions {
    /// Who does the work.
    pub choice: Choice,
    /// A folder in which tables are kept that take long to build; `None` builds them each time.
    pub tables: Option<PathBuf>,
}

/// Which of them a tokenizer is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Ours where it knows the vocabulary.
    #[default]
    Fastest,
    /// The library.
    Reference,
}

/// An engine and all that it says of tokens.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) engine: Engine,
    pub(super) pieces: Pieces,
    /// By id.
    pub(super) tokens: Vec<Token>,
    /// Added tokens by their text.
    added: HashMap<String, u32>,
    /// What the post-processor puts before a text.
    pub(super) before: Vec<u32>,
    /// And behind it.
    pub(super) behind: Vec<u32>,
}

#[derive(Debug)]
pub(super) enum Engine {
    Own(Box<Encoder>),
    Reference(Box<Reference>),
}

#[derive(Debug)]
pub(super) struct Reference {
    pub(super) engine: tokenizers::Tokenizer,
    vocabulary: Vocabulary,
    /// Why it is not ours.
    pub(super) why: &'static str,
}

impl Loaded {
    /// From the file at `path`, whose bytes `json` gives, each time anew.
    ///
    /// # Errors
    /// What is wrong with the file, in plain words, or what reading it says.
    pub(super) fn new<E: From<String>>(
        path: &Path,
        json: impl Fn() -> Result<Cow<'static, [u8]>, E>,
        options: &TokenizerOptions,
    ) -> Result<Self, E> {
        if options.choice == Choice::Reference {
            return Ok(Self::reference(&json()?, "it was asked for")?);
        }
        let tables = options
            .tables
            .as_deref()
            .and_then(|folder| bpe::place(folder, path));
        if let Some(built) = tables.as_deref().and_then(bpe::read) {
            return Ok(Self::own(built));
        }
        match bpe::build(json()?) {
            Ok(built) => {
                if let Some(tables) = tables {
                    bpe::write(&built, &tables);
                }
                Ok(Self::own(built))
            }
            Err(why) => Ok(Self::reference(&json()?, why)?),
        }
    }

    fn own(built: Built) -> Self {
        let Built {
            encoder,
            pieces,
            tokens,
            added,
            before,
            behind,
        } = built;
        Self {
            engine: Engine::Own(Box::new(encoder)),
            pieces,
            tokens,
            added: added
                .into_iter()
                .map(|added| (added.content, added.id))
                .collect(),
            before,
            behind,
        }
    }

    fn reference(json: &[u8], why: &'static str) -> Result<Self, String> {
        let mut engine = caught(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|problem| diagnose(json, &problem))?;
        if engine.get_vocab_size(false) == 0 {
            return Err("the vocabulary is empty".to_owned());
        }
        engine
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        engine.with_padding(None);
        let (before, behind) = around_text(&engine)?;
        // Special tokens are put in by `Tokenizer` alone, and offsets must not be trimmed.
        engine.with_post_processor(None::<PostProcessorWrapper>);

        let decoder = engine
            .get_decoder()
            .and_then(|decoder| serde_json::to_value(decoder).ok());
        let pieces = Pieces::of(&decoder.unwrap_or(Value::Null));
        let count = engine
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |last| *last as usize + 1);
        if count > MOST_IDS {
            return Err("its ids are absurdly large".to_owned());
        }
        let names: Vec<Option<String>> =
            (0..count as u32).map(|id| engine.id_to_token(id)).collect();
        let spelled = Spelled::new(names.iter(), |name, bytes| {
            pieces.append(name.as_deref().unwrap_or_default(), bytes);
        });
        let added_vocabulary = engine.get_added_vocabulary();
        let token = |(id, name): (u32, &Option<String>)| Token {
            exists: name.is_some(),
            special: added_vocabulary
                .simple_id_to_token(id)
                .is_some_and(|name| added_vocabulary.is_special_token(&name)),
            byte: matches!(pieces, Pieces::ByteFallback { .. })
                && name.as_deref().is_some_and(super::pieces::is_fallback),
        };
        Ok(Self {
            pieces,
            tokens: (0..).zip(&names).map(token).collect(),
            added: added_vocabulary
                .get_vocab()
                .iter()
                .map(|(name, id)| (name.clone(), *id))
                .collect(),
            before,
            behind,
            engine: Engine::Reference(Box::new(Reference {
                vocabulary: Vocabulary::to_spell(spelled),
                engine,
                why,
            })),
        })
    }

    /// The ids of a text, with nothing around it.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        match &self.engine {
            Engine::Own(encoder) => Ok(encoder.encode(text, true)),
            Engine::Reference(reference) => {
                Ok(caught(|| reference.engine.encode_fast(text, false))?
                    .get_ids()
                    .to_vec())
            }
        }
    }

    /// How many tokens a text has. Where not `special`, what spells a special token is text.
    pub(super) fn count(&self, text: &str, special: bool) -> Result<usize, String> {
        match &self.engine {
            Engine::Own(encoder) => Ok(encoder.count(text, special)),
            Engine::Reference(_) => Ok(self.encode_spanned(text, special)?.len()),
        }
    }

    /// Where a text may be cut at last, if its parts have the tokens of the whole.
    pub(super) fn last_cut(&self, text: &str) -> Option<usize> {
        match &self.engine {
            Engine::Own(encoder) => encoder.last_cut(text),
            Engine::Reference(_) => None,
        }
    }

    /// The ids of a text, and where in it they come from. Where not `special`, what spells a special token is text.
    pub(super) fn encode_spanned(&self, text: &str, special: bool) -> Result<Vec<Spanned>, String> {
        match &self.engine {
            Engine::Own(encoder) => Ok(encoder.encode_spanned(text, special)),
            Engine::Reference(reference) => {
                let encoding = if special {
                    caught(|| reference.engine.encode(text, false))?
                } else {
                    let mut engine = reference.engine.clone();
                    engine.set_encode_special_tokens(true);
                    caught(|| engine.encode(text, false))?
                };
                let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
                let spanned = |(token, (begin, end)): (&u32, &(usize, usize))| Spanned {
                    token: *token,
                    begin: *begin,
                    end: *end,
                };
                Ok(tokens.map(spanned).collect())
            }
        }
    }

    /// The bytes of a token; `None` for an id that is no token.
    #[inline]
    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let vocabulary = match &self.engine {
            Engine::Own(encoder) => encoder.vocabulary(),
            Engine::Reference(reference) => &reference.vocabulary,
        };
        self.token(id).exists.then(|| vocabulary.bytes_of(id))
    }

    /// What a token is.
    #[inline]
    pub(super) fn token(&self, id: u32) -> Token {
        self.tokens.get(id as usize).copied().unwrap_or_default()
    }

    /// The token with this text.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        let mut spelled = Vec::new();
        self.pieces.append(name, &mut spelled);
        let mut ids = 0..self.tokens.len() as u32;
        self.added
            .get(name)
            .copied()
            .or_else(|| ids.find(|id| self.bytes(*id) == Some(&spelled)))
    }
}

/// Calls the library, which panics where a pattern gives up on a text and on some damaged files.
fn caught<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic).to_owned()),
    }
}

/// What the library's post-processor puts before a text, and behind it.
fn around_text(engine: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
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

/// Says in plain words what is wrong with a `tokenizer.json` that the library refused.
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
