//! The tokens of a vocabulary as a tree of their bytes. Knows nothing of what is asked of an answer.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{ParserFactory, TokenParser};

use crate::sample::Mask;
use crate::tokenizer::Tokenizer;

/// A longer token is never needed, and the tree does not hold it.
const LONGEST_TOKEN: usize = 1000;

/// Ids that a vocabulary may leave out between its tokens.
const HOLES: usize = 1 << 16;

/// States of the lexer of one answer, each of 1 to 2 KB.
const LEXER_STATES: usize = 50_000;

/// What may stand between the text that a constraint waits for and the answer: models write it there.
const GAP: [&[u8]; 4] = [b"\n", b"\n\n", b"\r\n", b" "];

/// What all guides of one vocabulary share.
pub(super) struct Vocabulary {
    factory: ParserFactory,
    /// All tokens but those that end an answer.
    pub(super) free: Arc<Mask>,
    /// The tokens that may stand in the gap before an answer.
    pub(super) gap: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let pieces = pieces(tokenizer);
        let is_token = |id: &u32| matches!(pieces.get(*id as usize), Some(Some(_)));
        let ids = || (0..pieces.len() as u32).filter(is_token);
        let eos: Vec<u32> = tokenizer
            .eos_ids()
            .iter()
            .copied()
            .filter(is_token)
            .collect();
        let is_special = |id: u32| eos.contains(&id) || tokenizer.is_special(id);
        let words = pieces.iter().zip(0..);
        let words = words.map(|(piece, id)| word(piece.unwrap_or_default(), is_special(id)));
        let words: Vec<Vec<u8>> = words.collect();

        let first = eos.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, first), &words);
        if !eos.is_empty() {
            trie = trie.with_eos_tokens(&eos);
        }
        // What must come is not spelled by the tokenizer, which spells pieces of a text differently from the
        // whole, but by the model, among all tokens that fit.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        factory.limits_mut().max_lexer_states = LEXER_STATES;
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            free: Arc::new(ids().filter(|id| !eos.contains(id)).collect()),
            gap: ids()
                .filter(|&id| GAP.contains(&words[id as usize].as_slice()))
                .collect(),
        })
    }

    /// Reads texts of a grammar.
    pub(super) fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        self.factory
            .create_parser(grammar)
            .map_err(|error| error.to_string())
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let word = self.trie().token(id);
        word.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER])
            .unwrap_or(word)
    }

    /// Tokens that stand for these bytes.
    pub(super) fn tokens(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie().greedy_tokenize(bytes)
    }

    /// The tokens of a set.
    pub(super) fn mask(&self, set: &SimpleVob) -> Mask {
        Mask::of_bits(set.as_slice(), self.trie().vocab_size())
    }

    fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }
}

/// The bytes of each id, up to the last token.
fn pieces(tokenizer: &Tokenizer) -> Vec<Option<&[u8]>> {
    let count = tokenizer.vocab_size();
    let mut found = 0;
    let mut pieces = Vec::with_capacity(count);
    for id in 0..(count + HOLES) as u32 {
        if found == count {
            break;
        }
        let piece = tokenizer.piece(id);
        found += usize::from(piece.is_some());
        pieces.push(piece);
    }
    pieces
}

/// A token in the tree: special ones under a mark, so that no text leads to them.
fn word(piece: &[u8], is_special: bool) -> Vec<u8> {
    let mark = [TokTrie::SPECIAL_TOKEN_MARKER];
    match piece {
        _ if piece.len() > LONGEST_TOKEN => Vec::new(),
        _ if is_special => [&mark, piece].concat(),
        // No text holds this byte.
        _ if piece.starts_with(&mark) => Vec::new(),
        _ => piece.to_vec(),
    }
}
