//! Produced tokens on their way to text. Knows nothing of steps or of why tokens come.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::request::Token;
use crate::engine::stop::Stops;
use crate::tokenizer::{Special, StreamDecoder, Tokenizer};

/// Text that may be shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// Whole characters, without any part of a stop string.
    pub(super) text: String,
    /// The tokens whose text begins in `text`.
    pub(super) tokens: Vec<Token>,
    /// The stop string that comes next, where one was reached.
    pub(super) stop: Option<String>,
}

/// Decodes one answer and holds back what may not be shown yet.
pub(super) struct Answer {
    decoder: StreamDecoder,
    stops: Stops,
    /// Tokens not handed out, each with the offset in the answer's text at which its own begins.
    waiting: VecDeque<(usize, Token)>,
    /// Bytes of text decoded.
    decoded: usize,
    /// Bytes of text handed out.
    released: usize,
}

impl Answer {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, stops: Vec<String>, special: Special) -> Self {
        Self {
            decoder: StreamDecoder::with_special(tokenizer, special),
            stops: Stops::new(stops),
            waiting: VecDeque::new(),
            decoded: 0,
            released: 0,
        }
    }

    /// Takes the next token in.
    pub(super) fn push(&mut self, token: Token) {
        let text = self.decoder.push(token.id);
        self.stops.push(text);
        self.waiting.push_back((self.decoded, token));
        self.decoded += text.len();
    }

    /// Hands out what may be shown now.
    pub(super) fn release(&mut self) -> Piece {
        let (text, stop) = self.stops.release();
        self.piece(text, stop, false)
    }

    /// Hands out everything: nothing follows.
    pub(super) fn finish(&mut self) -> Piece {
        self.stops.push(self.decoder.finish());
        let (text, stop) = self.stops.finish();
        let all = stop.is_none();
        self.piece(text, stop, all)
    }

    fn piece(&mut self, text: String, stop: Option<String>, all: bool) -> Piece {
        self.released += text.len();
        let begun = self
            .waiting
            .iter()
            .take_while(|(start, _)| all || *start < self.released);
        let count = begun.count();
        let tokens = self
            .waiting
            .drain(..count)
            .map(|(_, token)| token)
            .collect();
        Piece { text, tokens, stop }
    }
}
