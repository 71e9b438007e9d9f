//! A file's tokens and merges by ids.

use std::collections::{HashMap, HashSet};
use std::thread;

use super::build::{Refusal, Token};
use super::definition::{AddedToken, Definition, MergeList, MergePair};
use super::merges::{Merge, NONE};
use super::pairs::MOST_TOKENS;
use crate::tokenizer::pieces::{Pieces as Spelling, byte_level_byte, fallback_byte, is_fallback};

/// Threads that look merges up.
const THREADS: usize = 2;

/// The file's tokens by their ids.
pub(super) struct Ids<'a> {
    pub(super) by_name: HashMap<&'a str, u32, foldhash::fast::FixedState>,
    /// Names by id; empty where there is none.
    pub(super) names: Vec<&'a str>,
    /// Whether a token is one of the model's.
    pub(super) in_model: Vec<bool>,
}

impl<'a> Ids<'a> {
    pub(super) fn new(definition: &'a Definition<'_>) -> Result<Self, Refusal> {
        let vocab = &definition.model.vocab.0;
        let added = &definition.added_tokens;
        let last = vocab
            .iter()
            .map(|(_, id)| *id)
            .chain(added.iter().map(|added| added.id))
            .max();
        let count = last.ok_or("it has no tokens")? as usize + 1;
        if count > MOST_TOKENS {
            return Err("its ids are absurdly large");
        }
        let mut ids = Self {
            by_name: HashMap::with_capacity_and_hasher(
                vocab.len(),
                foldhash::fast::FixedState::default(),
            ),
            names: vec![""; count],
            in_model: vec![false; count],
        };
        for (name, id) in vocab {
            let place = &mut ids.names[*id as usize];
            if !place.is_empty() || ids.by_name.insert(name, *id).is_some() {
                return Err("two of its tokens have one id or one spelling");
            }
            *place = name;
            ids.in_model[*id as usize] = true;
        }
        ids.add(added, vocab.len())?;
        Ok(ids)
    }

    /// Added tokens, whose ids are those that the reference gives them: what the model calls by that name, or the next
    /// one behind all others.
    fn add(&mut self, added: &'a [AddedToken], model_size: usize) -> Result<(), Refusal> {
        let refusal = "the ids of its added tokens are not in order";
        let mut next = model_size as u32;
        let mut contents = HashSet::new();
        for token in added {
            if !contents.insert(&*token.content) || token.content.is_empty() {
                return Err("an added token is empty or comes twice");
            }
            if let Some(id) = self.by_name.get(&*token.content) {
                if *id != token.id {
                    return Err(refusal);
                }
                continue;
            }
            if token.id != next || !self.names[token.id as usize].is_empty() {
                return Err(refusal);
            }
            self.names[token.id as usize] = &token.content;
            next += 1;
        }
        Ok(())
    }

    pub(super) fn tokens(&self, added: &[AddedToken], spelling: Spelling) -> Vec<Token> {
        let of_name = |name: &&str| Token {
            exists: !name.is_empty(),
            byte: spelling != Spelling::ByteLevel && is_fallback(name),
            ..Token::default()
        };
        let mut tokens: Vec<Token> = self.names.iter().map(of_name).collect();
        for added in added {
            tokens[added.id as usize].special = added.special;
        }
        tokens
    }
}

/// The list of merges by ids.
pub(super) fn merges(list: &MergeList<'_>, ids: &Ids<'_>) -> Result<Vec<Merge>, Refusal> {
    // What takes the time is to wait for memory.
    let each = list.0.len().div_ceil(THREADS).max(1);
    let parts = thread::scope(|scope| {
        let parts: Vec<_> = list
            .0
            .chunks(each)
            .map(|part| scope.spawn(|| some_merges(part, ids)))
            .collect();
        let joined = parts.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|part| part.map_err(|_| "its merges cannot be read")?)
            .collect::<Result<Vec<_>, _>>()
    });
    parts.map(|parts| parts.concat())
}

fn some_merges(list: &[MergePair<'_>], ids: &Ids<'_>) -> Result<Vec<Merge>, Refusal> {
    let of_name = |name: &str| ids.by_name.get(name).copied();
    let is_joined = |id: &u32, left: &str, right: &str| {
        let name = ids.names.get(*id as usize).copied().unwrap_or_default();
        name.strip_prefix(left) == Some(right) && ids.in_model[*id as usize]
    };
    let mut made = Vec::with_capacity(list.len());
    let mut last = 0;
    for pair in list {
        let (left, right) = pair.parts().ok_or("a merge is not of two tokens")?;
        // Lists are in the order of ids, mostly.
        let merged = [last, last + 1]
            .into_iter()
            .find(|id| is_joined(id, left, right))
            .or_else(|| of_name(&[left, right].concat()));
        let (Some(left), Some(right), Some(merged)) = (of_name(left), of_name(right), merged)
        else {
            return Err("a merge is of tokens that are not in the vocabulary");
        };
        last = merged;
        made.push(Merge {
            left,
            right,
            merged,
        });
    }
    Ok(made)
}

/// The tokens of bytes that characters fall back to.
pub(super) fn byte_tokens(ids: &Ids<'_>, spelling: Spelling) -> Result<[u32; 256], Refusal> {
    let mut tokens = [NONE; 256];
    for (name, id) in &ids.by_name {
        let byte = if spelling == Spelling::ByteLevel {
            byte_level_byte(name)
        } else {
            fallback_byte(name)
        };
        if let Some(byte) = byte {
            tokens[usize::from(byte)] = *id;
        }
    }
    if tokens.contains(&NONE) {
        return Err("it has no token for some bytes");
    }
    Ok(tokens)
}
