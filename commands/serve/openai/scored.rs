//! Tokens with their log-probabilities, in the form that completions have.

use mlxr::engine::request::{Logprobs, Token};
use mlxr::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// Four lists of the same length.
pub(super) struct Table<'a> {
    tokenizer: &'a Tokenizer,
    names: Vec<String>,
    chosen: Vec<Option<f32>>,
    top: Vec<Option<Value>>,
    /// Where the text of each token begins, in characters.
    offsets: Vec<usize>,
}

impl<'a> Table<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            names: Vec::new(),
            chosen: Vec::new(),
            top: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// The tokens of a prompt. Nothing is said of the first one: nothing comes before it.
    pub(super) fn add_prompt(&mut self, text: &str, tokens: &[u32], scores: &[Logprobs]) {
        let (mut at, mut offset) = (0, 0);
        let scores = [None].into_iter().chain(scores.iter().map(Some));
        for (&id, score) in tokens.iter().zip(scores) {
            let name = self.name(id);
            let rest = &text[at..];
            // What begins a sequence is not in its text, nor the space that some vocabularies put there.
            let shown = [name.as_str(), name.trim_start_matches(' ')];
            let shown = shown.iter().find(|shown| rest.starts_with(**shown));
            let (bytes, length) =
                shown.map_or((0, 0), |shown| (shown.len(), shown.chars().count()));
            self.add(name, score, offset);
            at += bytes;
            offset += length;
        }
    }

    /// The tokens of an answer, whose text begins at `offset`.
    pub(super) fn add_answer(&mut self, tokens: &[Token], mut offset: usize) {
        for token in tokens {
            let name = self.name(token.id);
            let length = name.chars().count();
            self.add(name, token.logprobs.as_ref(), offset);
            offset += length;
        }
    }

    pub(super) fn value(self) -> Value {
        json!({
            "tokens": self.names,
            "token_logprobs": self.chosen,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }

    fn add(&mut self, name: String, score: Option<&Logprobs>, offset: usize) {
        let top = score.map(|score| {
            let likeliest = score.top.iter();
            let named = likeliest.map(|&(id, logprob)| (self.name(id), logprob.into()));
            Value::Object(named.collect::<Map<String, Value>>())
        });
        self.names.push(name);
        self.chosen.push(score.map(|score| score.chosen));
        self.top.push(top);
        self.offsets.push(offset);
    }

    fn name(&self, id: u32) -> String {
        let bytes = self.tokenizer.piece(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}
