//! Token ids to text, one at a time, in whole characters. Knows tokens' bytes, not their meaning.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Tokenizer;
use super::engine::Engine;
use super::pieces::Pieces;

/// What decoding does with special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Special {
    /// They are no part of the text.
    #[default]
    Hide,
    /// They are written as their names.
    Show,
}

/// Stands for bytes that are no UTF-8.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Tokens that a foreign decoder may hold back before their text is shown as it is.
const PATIENCE: usize = 8;

/// Turns the tokens of one text into text as they come.
///
/// A character is given out with the token that completes it. All texts together are
/// [`Tokenizer::decode`] of all tokens, less a character that the last token left unfinished.
#[derive(Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    state: State,
    text: String,
}

impl StreamDecoder {
    /// Begins a text; special tokens are hidden.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self::with_special(tokenizer, Special::Hide)
    }

    /// Begins a text.
    pub fn with_special(tokenizer: Arc<Tokenizer>, special: Special) -> Self {
        Self {
            state: State::new(&tokenizer, special),
            tokenizer,
            text: String::new(),
        }
    }

    /// The text that this token completes; often a word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.text.clear();
        self.state.push(&self.tokenizer, id, &mut self.text);
        &self.text
    }

    /// What is still held back and whole, and begins a new text.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.state.finish(&self.tokenizer, &mut self.text);
        self.state = State::new(&self.tokenizer, self.state.special);
        &self.text
    }
}

/// Decodes a whole text.
pub(super) fn decode(tokenizer: &Tokenizer, ids: &[u32], special: Special) -> String {
    if tokenizer.loaded.pieces == Pieces::Engine {
        return engine_decode(tokenizer, ids, special);
    }
    // Where all bytes are characters, it does not matter which token has which.
    if let Ok(text) = String::from_utf8(decode_bytes(tokenizer, ids, special)) {
        return text;
    }
    let mut text = String::new();
    let mut state = State::new(tokenizer, special);
    for id in ids {
        state.push(tokenizer, *id, &mut text);
    }
    state.replace_pending(tokenizer.loaded.pieces, &mut text);
    text
}

/// The bytes of a whole text.
pub(super) fn decode_bytes(tokenizer: &Tokenizer, ids: &[u32], special: Special) -> Vec<u8> {
    let loaded = &tokenizer.loaded;
    if loaded.pieces == Pieces::Engine {
        return engine_decode(tokenizer, ids, special).into_bytes();
    }
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    for id in ids {
        if special == Special::Show || !loaded.token(*id).special {
            bytes.extend_from_slice(loaded.bytes(*id).unwrap_or_default());
        }
    }
    if let Pieces::ByteFallback { strip } = loaded.pieces {
        let spaces = bytes
            .iter()
            .take(strip)
            .take_while(|byte| **byte == b' ')
            .count();
        bytes.drain(..spaces);
    }
    bytes
}

#[derive(Debug)]
struct State {
    special: Special,
    /// Spaces that may still be taken from the start of the text.
    strip: usize,
    /// Bytes of an unfinished character.
    pending: Vec<u8>,
    /// For [`Pieces::Engine`]: tokens already shown that those after them depend on, then those
    /// not shown yet.
    window: Vec<u32>,
    /// How many of `window` are shown.
    shown: usize,
}

impl State {
    fn new(tokenizer: &Tokenizer, special: Special) -> Self {
        let strip = match tokenizer.loaded.pieces {
            Pieces::ByteFallback { strip } => strip,
            Pieces::ByteLevel | Pieces::Engine => 0,
        };
        Self {
            special,
            strip,
            pending: Vec::new(),
            window: Vec::new(),
            shown: 0,
        }
    }

    fn push(&mut self, tokenizer: &Tokenizer, id: u32, text: &mut String) {
        let token = tokenizer.loaded.token(id);
        let hidden = self.special == Special::Hide && token.special;
        let Some(bytes) = tokenizer.loaded.bytes(id).filter(|_| !hidden) else {
            return;
        };
        match tokenizer.loaded.pieces {
            Pieces::ByteLevel => {
                self.pending.extend_from_slice(bytes);
                self.show_whole_characters(tokenizer.loaded.pieces, text);
            }
            Pieces::ByteFallback { .. } => {
                if token.byte {
                    self.pending.extend_from_slice(bytes);
                    self.show_whole_characters(tokenizer.loaded.pieces, text);
                } else {
                    self.replace_pending(tokenizer.loaded.pieces, text);
                    self.show(&String::from_utf8_lossy(bytes), text);
                }
            }
            Pieces::Engine => {
                self.window.push(id);
                self.show_settled(tokenizer, text);
            }
        }
    }

    fn finish(&mut self, tokenizer: &Tokenizer, text: &mut String) {
        if tokenizer.loaded.pieces == Pieces::Engine {
            text.push_str(self.unshown(tokenizer).trim_end_matches(REPLACEMENT));
        }
    }

    /// Moves whole characters from `pending` to the text, and replacements for what cannot
    /// become one.
    fn show_whole_characters(&mut self, pieces: Pieces, text: &mut String) {
        let bytes = std::mem::take(&mut self.pending);
        let mut rest = &bytes[..];
        loop {
            let (valid, invalid) = match str::from_utf8(rest) {
                Ok(_) => (rest.len(), Some(0)),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            self.show(&String::from_utf8_lossy(&rest[..valid]), text);
            rest = &rest[valid..];
            match invalid {
                Some(0) => return,
                Some(length) => {
                    self.replace(pieces, length, text);
                    rest = &rest[length..];
                }
                None => {
                    self.pending = rest.to_vec();
                    return;
                }
            }
        }
    }

    /// Gives up on the unfinished character.
    fn replace_pending(&mut self, pieces: Pieces, text: &mut String) {
        let length = std::mem::take(&mut self.pending).len();
        if length > 0 {
            self.replace(pieces, length, text);
        }
    }

    /// Shows `length` bytes that belong to one broken character. Byte-level decoders replace them
    /// together, byte-fallback decoders each.
    fn replace(&mut self, pieces: Pieces, length: usize, text: &mut String) {
        let times = if pieces == Pieces::ByteLevel {
            1
        } else {
            length
        };
        for _ in 0..times {
            self.show(REPLACEMENT.encode_utf8(&mut [0; 4]), text);
        }
    }

    /// Adds to the text what is not stripped from its start.
    fn show(&mut self, mut addition: &str, text: &mut String) {
        while self.strip > 0
            && let Some(rest) = addition.strip_prefix(' ')
        {
            addition = rest;
            self.strip -= 1;
        }
        if !addition.is_empty() {
            self.strip = 0;
            text.push_str(addition);
        }
    }

    /// Shows what the engine makes of the tokens not shown yet, unless it ends unfinished.
    fn show_settled(&mut self, tokenizer: &Tokenizer, text: &mut String) {
        let addition = self.unshown(tokenizer);
        if addition.ends_with(REPLACEMENT) && self.window.len() - self.shown < PATIENCE {
            return;
        }
        text.push_str(&addition);
        self.window.drain(..self.shown);
        self.shown = self.window.len();
    }

    /// The text that the tokens not shown add to those shown.
    fn unshown(&self, tokenizer: &Tokenizer) -> String {
        let before = engine_decode(tokenizer, &self.window[..self.shown], self.special);
        let mut whole = engine_decode(tokenizer, &self.window, self.special);
        let pairs = before.chars().zip(whole.chars());
        let common = pairs
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        whole.split_off(common)
    }
}

fn engine_decode(tokenizer: &Tokenizer, ids: &[u32], special: Special) -> String {
    let Engine::Reference(reference) = &tokenizer.loaded.engine else {
        return String::new();
    };
    // Decoders fail on nothing that a vocabulary can contain; an empty text is the safe answer.
    reference
        .engine
        .decode(ids, special == Special::Hide)
        .unwrap_or_default()
}
