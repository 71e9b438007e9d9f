//! From `tokenizer.json` to an encoder, or to the reason why there is none.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::Encoder;
use super::added::Added;
use super::around::around;
use super::definition::{AddedToken, Definition, Model};
use super::merges::{Merge, Merges, NONE};
use super::normal::normalize;
use super::pairs::MOST_TOKENS;
use super::piece::Pieces;
use super::scan::Seams;
use super::scratch::Scratches;
use super::structure::{self, Cut, Normal};
use super::trie::Trie;
use super::vocabulary::Vocabulary;
use crate::tokenizer::pieces::{
    Pieces as Spelling, byte_level_byte, fallback_byte, is_byte_level, is_fallback,
};

/// An encoder, and what else the file says of its tokens.
#[derive(Debug)]
pub(in super::super) struct Built {
    pub(in super::super) encoder: Encoder,
    /// How the vocabulary spells bytes.
    pub(in super::super) pieces: Spelling,
    /// By id.
    pub(in super::super) tokens: Vec<Token>,
    /// Added tokens.
    pub(in super::super) added: Vec<AddedToken>,
    /// What the post-processor puts before a text.
    pub(in super::super) before: Vec<u32>,
    /// And behind it.
    pub(in super::super) behind: Vec<u32>,
}

/// What a token is, beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Token {
    /// Whether there is one with this id.
    pub(in super::super) exists: bool,
    /// Whether decoding hides it unless asked not to.
    pub(in super::super) special: bool,
    /// Whether it is spelled as a byte, `<0xNN>`.
    pub(in super::super) byte: bool,
}

/// Why a vocabulary is left to the reference engine.
type Refusal = &'static str;

/// Builds an encoder.
///
/// # Errors
/// What of the file is not known here.
pub(in super::super) fn build(json: &[u8]) -> Result<Built, Refusal> {
    let definition: Definition<'_> =
        serde_json::from_slice(json).map_err(|_| "its model is not byte-pair encoding")?;
    let model = &definition.model;
    check(model)?;
    let spelling = Spelling::of(&definition.decoder);
    let (normal, cut) = structure(&definition, spelling)?;
    let (before, behind) =
        around(&definition.post_processor).ok_or("its post-processor is none of those known")?;
    let ids = Ids::new(&definition)?;
    let (raw, normalized) = added(&definition.added_tokens, normal)?;
    let pieces = pieces(&definition, &ids, spelling, normal)?;
    let seams = match cut {
        Cut::Seams => Seams::new(pieces.made().map(|token| pieces.vocabulary.bytes_of(token))),
        _ => Seams::none(),
    };
    Ok(Built {
        encoder: Encoder {
            pieces,
            seams,
            cut,
            normal,
            raw,
            normalized,
            scratches: Scratches::default(),
        },
        pieces: spelling,
        tokens: ids.tokens(&definition.added_tokens, spelling),
        added: definition.added_tokens,
        before,
        behind,
    })
}

/// Normalizer and cut.
fn structure(definition: &Definition<'_>, spelling: Spelling) -> Result<(Normal, Cut), Refusal> {
    let Definition {
        normalizer,
        pre_tokenizer,
        model,
        ..
    } = definition;
    let known = match spelling {
        Spelling::ByteLevel => structure::byte_level(normalizer, pre_tokenizer),
        Spelling::ByteFallback { .. } if model.byte_fallback && !model.ignore_merges => {
            structure::sentence_piece(normalizer, pre_tokenizer).map(|normal| (normal, Cut::Seams))
        }
        Spelling::ByteFallback { .. } | Spelling::Engine => None,
    };
    known.ok_or("its normalizer, pre-tokenizer or decoder is none of those known")
}

/// What one piece needs.
fn pieces(
    definition: &Definition<'_>,
    ids: &Ids<'_>,
    spelling: Spelling,
    normal: Normal,
) -> Result<Pieces, Refusal> {
    let model = &definition.model;
    let mut spelled: Vec<Cow<'_, [u8]>> =
        ids.names.iter().map(|name| spelling.bytes(name)).collect();
    for added in definition
        .added_tokens
        .iter()
        .filter(|added| added.normalized)
    {
        // Decoded as it is found.
        let content = normalize(early(normal), &added.content, true);
        if *content != added.content {
            if ids.in_model[added.id as usize] {
                return Err("one of its tokens is decoded otherwise than it is encoded");
            }
            spelled[added.id as usize] = Cow::Owned(spelling.bytes(&content).into_owned());
        }
    }

    let is_symbol = |(name, in_model): (&&str, &bool)| *in_model && is_symbol(name);
    let symbols: Vec<bool> = ids.names.iter().zip(&ids.in_model).map(is_symbol).collect();
    let lengths: Vec<u32> = ids.names.iter().map(|name| name.len() as u32).collect();
    // Sorting takes as long as finding out which tokens are made.
    let (merged, sorted) = std::thread::scope(|scope| {
        let sorted = scope.spawn(|| sorted(&spelled));
        let merged = merges(model, ids)
            .and_then(|list| Merges::new(&list, &symbols, &lengths).ok_or("a merge comes twice"));
        (merged, sorted.join())
    });
    let (merges, numbers) = merged?;
    let sorted = sorted.map_err(|_| "its tokens cannot be sorted")?;

    // Texts hold no token whose spelling is not that of text.
    let is_text = |name: &str| match spelling {
        Spelling::ByteLevel => is_byte_level(name),
        _ => !name.contains(' '),
    };
    let is_made = |id: u32| numbers[id as usize] != NONE && is_text(ids.names[id as usize]);
    let is_known = |id: u32| {
        let name = ids.names[id as usize];
        is_made(id)
            || (model.ignore_merges
                && ids.in_model[id as usize]
                && !name.is_empty()
                && is_text(name))
    };
    let (vocabulary, trie) = std::thread::scope(|scope| {
        let trie = scope.spawn(|| {
            let all = sorted.iter().filter(|(_, id)| is_made(*id));
            let mut made: Vec<(&[u8], u32)> = all
                .map(|(bytes, id)| (*bytes, numbers[*id as usize]))
                .collect();
            // Only those with the same bytes are still to be sorted, by their numbers.
            made.sort();
            Trie::new(&made)
        });
        (Vocabulary::new(&spelled, is_known), trie.join())
    });
    let trie = trie.map_err(|_| "its tokens cannot be sorted")?;
    let bytes = byte_tokens(ids, spelling)?;
    Ok(Pieces::new(vocabulary, merges, trie, &bytes))
}

/// All tokens' bytes in order, with their ids.
fn sorted<'a>(spelled: &'a [Cow<'_, [u8]>]) -> Vec<(&'a [u8], u32)> {
    // The first bytes as a number are compared faster, and mostly tell.
    let first = |bytes: &[u8]| {
        let mut first = [0; 8];
        let count = bytes.len().min(8);
        first[..count].copy_from_slice(&bytes[..count]);
        u64::from_be_bytes(first)
    };
    let mut sorted: Vec<(u64, &[u8], u32)> = (0..)
        .zip(spelled)
        .map(|(id, bytes)| (first(bytes), &**bytes, id))
        .collect();
    sorted.sort_unstable();
    sorted
        .into_iter()
        .map(|(_, bytes, id)| (bytes, id))
        .collect()
}

/// What is done to a text before added tokens are sought in it.
pub(super) fn early(normal: Normal) -> Normal {
    match normal {
        Normal::Spaces { early: false, .. } => Normal::Same,
        normal => normal,
    }
}

/// Refuses what byte-pair encoding may do beside merging.
fn check(model: &Model<'_>) -> Result<(), Refusal> {
    let is_empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err("its model is not byte-pair encoding");
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("it drops merges at random");
    }
    if !is_empty(&model.continuing_subword_prefix) || !is_empty(&model.end_of_word_suffix) {
        return Err("it marks where words go on or end");
    }
    Ok(())
}

/// Whether text consists of it before anything is merged: it is one character.
fn is_symbol(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some() && characters.next().is_none()
}

/// The file's tokens by their ids.
struct Ids<'a> {
    by_name: HashMap<&'a str, u32, foldhash::fast::FixedState>,
    /// Names by id; empty where there is none.
    names: Vec<&'a str>,
    /// Whether a token is one of the model's.
    in_model: Vec<bool>,
}

impl<'a> Ids<'a> {
    fn new(definition: &'a Definition<'_>) -> Result<Self, Refusal> {
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

    fn tokens(&self, added: &[AddedToken], spelling: Spelling) -> Vec<Token> {
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
fn merges(model: &Model<'_>, ids: &Ids<'_>) -> Result<Vec<Merge>, Refusal> {
    let of_name = |name: &str| ids.by_name.get(name).copied();
    let is_joined = |id: &u32, left: &str, right: &str| {
        let name = ids.names.get(*id as usize).copied().unwrap_or_default();
        name.strip_prefix(left) == Some(right) && ids.in_model[*id as usize]
    };
    let mut list = Vec::with_capacity(model.merges.0.len());
    let mut last = 0;
    for pair in &model.merges.0 {
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
        list.push(Merge {
            left,
            right,
            merged,
        });
    }
    Ok(list)
}

/// The tokens of bytes that characters fall back to.
fn byte_tokens(ids: &Ids<'_>, spelling: Spelling) -> Result<[u32; 256], Refusal> {
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

/// Added tokens that are sought in a text as it is, and in normalized text.
pub(super) fn added(
    tokens: &[AddedToken],
    normal: Normal,
) -> Result<(Option<Added>, Option<Added>), Refusal> {
    let (normalized, raw): (Vec<_>, Vec<_>) = tokens.iter().partition(|token| token.normalized);
    let early = early(normal);
    let is_picky = |token: &&AddedToken| token.lstrip || token.rstrip || token.single_word;
    if matches!(early, Normal::Spaces { .. }) && normalized.iter().any(is_picky) {
        return Err("an added token takes white space along that is no white space any more");
    }
    let normalized = normalized.into_iter().map(|token| {
        let content = normalize(early, &token.content, true).into_owned();
        (content.into_bytes(), token)
    });
    let raw = raw
        .into_iter()
        .map(|token| (token.content.clone().into_bytes(), token));
    Ok((Added::new(raw.collect()), Added::new(normalized.collect())))
}
