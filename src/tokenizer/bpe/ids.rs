//! A file's tokens and merges by ids.

use std::borrow::Cow;
use std::collections::HashSet;

use super::build::{Refusal, Token, at_once};
use super::definition::{AddedToken, MergeList, MergePair, Vocab};
use super::hash;
use super::merges::{Merge, NONE};
use super::pairs::MOST_TOKENS;
use crate::kernels::text::prefetch;
use crate::tokenizer::pieces::{Pieces as Spelling, byte_level_byte, fallback_byte, is_fallback};

/// Names that are asked of the memory before the first of them is compared.
const ASKED: usize = 32;

/// The file's tokens by their ids.
pub(super) struct Ids<'a> {
    /// Of the model's tokens by a hash of their names: more of the hash, and the id, or [`NONE`].
    slots: Vec<(u32, u32)>,
    /// Names by id; empty where there is none.
    pub(super) names: Vec<Cow<'a, str>>,
    /// Whether a token is one of the model's.
    pub(super) in_model: Vec<bool>,
}

impl<'a> Ids<'a> {
    /// Of the model's tokens, and of added ones.
    pub(super) fn new(vocab: Vocab<'a>, added: &'a [AddedToken]) -> Result<Self, Refusal> {
        let Vocab {
            names,
            is_there,
            count,
            refusal,
        } = vocab;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let mut ids = Self {
            slots: vec![(0, NONE); (2 * count).next_power_of_two()],
            names,
            in_model: is_there,
        };
        for first in (0..ids.names.len()).step_by(ASKED) {
            let some = first..ids.names.len().min(first + ASKED);
            let mut hashes = [0; ASKED];
            for (hash, name) in hashes.iter_mut().zip(&ids.names[some.clone()]) {
                *hash = hash::of_bytes(name.as_bytes());
                prefetch(&ids.slots, ids.slot(*hash));
            }
            for (hash, id) in hashes.into_iter().zip(some) {
                if !ids.in_model[id] {
                    continue;
                }
                let at = ids.place(&ids.names[id], hash);
                if ids.slots[at].1 != NONE {
                    return Err("two of its tokens have one spelling");
                }
                ids.slots[at] = (hash as u32, id as u32);
            }
        }
        ids.add(added, count)?;
        Ok(ids)
    }

    /// Where a name is looked for first.
    fn slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    /// Where a name is, or would be.
    fn place(&self, name: &str, hash: u64) -> usize {
        let mut at = self.slot(hash);
        loop {
            let (tag, id) = self.slots[at];
            if id == NONE || tag == hash as u32 && self.names[id as usize] == name {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The token of the model that is spelled so; [`NONE`] where there is none.
    fn find(&self, name: &str) -> u32 {
        self.slots[self.place(name, hash::of_bytes(name.as_bytes()))].1
    }

    /// The same of some names, at most [`ASKED`]: what takes the time is to wait for memory, so that is asked for first.
    fn find_some(&self, names: &[&str], found: &mut [u32; ASKED]) {
        let mut hashes = [0; ASKED];
        for (hash, name) in hashes.iter_mut().zip(names) {
            *hash = hash::of_bytes(name.as_bytes());
            prefetch(&self.slots, self.slot(*hash));
        }
        for hash in &hashes[..names.len()] {
            prefetch(&self.names, self.slots[self.slot(*hash)].1 as usize);
        }
        for hash in &hashes[..names.len()] {
            let id = self.slots[self.slot(*hash)].1 as usize;
            let name = self.names.get(id).map_or("", |name| name);
            prefetch(name.as_bytes(), 0);
        }
        for ((found, hash), name) in found.iter_mut().zip(hashes).zip(names) {
            *found = self.slots[self.place(name, hash)].1;
        }
    }

    /// Added tokens, whose ids are those that the reference gives them: what the model calls by that name, or the next
    /// one behind all others.
    fn add(&mut self, added: &'a [AddedToken], model_size: usize) -> Result<(), Refusal> {
        let refusal = "the ids of its added tokens are not in order";
        let Some(last) = added.iter().map(|token| token.id as usize).max() else {
            return Ok(());
        };
        if last >= MOST_TOKENS {
            return Err("its ids are absurdly large");
        }
        if last >= self.names.len() {
            self.names.resize(last + 1, Cow::Borrowed(""));
            self.in_model.resize(last + 1, false);
        }
        let mut next = model_size as u32;
        let mut contents = HashSet::new();
        for token in added {
            if !contents.insert(&*token.content) || token.content.is_empty() {
                return Err("an added token is empty or comes twice");
            }
            let id = self.find(&token.content);
            if id == token.id {
                continue;
            }
            if id != NONE {
                return Err(refusal);
            }
            if token.id != next || !self.names[token.id as usize].is_empty() {
                return Err(refusal);
            }
            self.names[token.id as usize] = Cow::Borrowed(&token.content);
            next += 1;
        }
        Ok(())
    }

    pub(super) fn tokens(&self, added: &[AddedToken], spelling: Spelling) -> Vec<Token> {
        let of_name = |name: &Cow<'_, str>| Token {
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
    let mut merges = vec![Merge::default(); list.pairs.len()];
    let half = merges.len() / 2;
    let (first, second) = list.pairs.split_at(half);
    let (first_made, second_made) = merges.split_at_mut(half);
    let (first, second) = at_once(
        || some_merges(list, first, ids, first_made),
        || some_merges(list, second, ids, second_made),
    );
    first.and(second)?;
    Ok(merges)
}

fn some_merges(
    list: &MergeList<'_>,
    pairs: &[MergePair],
    ids: &Ids<'_>,
    made: &mut [Merge],
) -> Result<(), Refusal> {
    let is_joined = |id: &u32, left: &str, right: &str| {
        let name = ids.names.get(*id as usize).map_or("", |name| name);
        name.strip_prefix(left) == Some(right) && ids.in_model[*id as usize]
    };
    let mut names = Vec::with_capacity(ASKED);
    let mut found = [NONE; ASKED];
    let mut last = 0;
    for (pairs, made) in pairs.chunks(ASKED / 2).zip(made.chunks_mut(ASKED / 2)) {
        names.clear();
        for pair in pairs {
            names.extend(list.tokens(*pair));
        }
        ids.find_some(&names, &mut found);
        let both = names.chunks_exact(2).zip(found.chunks_exact(2));
        for (made, (names, found)) in made.iter_mut().zip(both) {
            let (&[left, right], &[left_id, right_id]) = (names, found) else {
                continue;
            };
            // Lists are in the order of ids, mostly.
            let merged = [last, last + 1]
                .into_iter()
                .find(|id| is_joined(id, left, right))
                .unwrap_or_else(|| ids.find(&[left, right].concat()));
            if [left_id, right_id, merged].contains(&NONE) {
                return Err("a merge is of tokens that are not in the vocabulary");
            }
            last = merged;
            *made = Merge {
                left: left_id,
                right: right_id,
                merged,
            };
        }
    }
    Ok(())
}

/// The tokens of bytes that characters fall back to.
pub(super) fn byte_tokens(ids: &Ids<'_>, spelling: Spelling) -> Result<[u32; 256], Refusal> {
    let mut tokens = [NONE; 256];
    let of_model = (0..).zip(&ids.names).zip(&ids.in_model);
    for ((id, name), _) in of_model.filter(|(_, in_model)| **in_model) {
        let byte = if spelling == Spelling::ByteLevel {
            byte_level_byte(name)
        } else {
            fallback_byte(name)
        };
        if let Some(byte) = byte {
            tokens[usize::from(byte)] = id;
        }
    }
    if tokens.contains(&NONE) {
        return Err("it has no token for some bytes");
    }
    Ok(tokens)
}
