//! From `tokenizer.json` to an encoder, or to the reason why there is none.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::thread;

use super::Encoder;
use super::added::Added;
use super::around::around;
use super::definition::{AddedToken, Definition, MergeList, Model, parted};
use super::ids::{Ids, byte_tokens, merges};
use super::merges::{Merges, NONE};
use super::normal::normalize;
use super::piece::Pieces;
use super::scan::Seams;
use super::scratch::Scratches;
use super::structure::{self, Cut, Normal};
use super::trie::Trie;
use super::vocabulary::{Found, Spelled, Vocabulary};
use crate::tokenizer::pieces::{Pieces as Spelling, is_byte_level};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Token {
    /// Whether there is one with this id.
    pub(in super::super) exists: bool,
    /// Whether decoding hides it unless asked not to.
    pub(in super::super) special: bool,
    /// Whether it is spelled as a byte, `<0xNN>`.
    pub(in super::super) byte: bool,
}

impl Token {
    /// A bit for each.
    pub(super) fn bits(self) -> u8 {
        u8::from(self.exists) | u8::from(self.special) << 1 | u8::from(self.byte) << 2
    }

    /// What [`Self::bits`] are of.
    pub(super) fn of_bits(bits: u8) -> Self {
        Self {
            exists: bits & 1 != 0,
            special: bits & 2 != 0,
            byte: bits & 4 != 0,
        }
    }
}

/// Why a vocabulary is left to the reference engine.
pub(super) type Refusal = &'static str;

const NOT_PAIRS: Refusal = "its model is not byte-pair encoding";

/// Builds an encoder.
///
/// # Errors
/// What of the file is not known here.
pub(in super::super) fn build(json: &[u8]) -> Result<Built, Refusal> {
    if let Some((rest, list)) = parted(json)
        && let Ok(built) = of_parts(&rest, Some(list))
    {
        return Ok(built);
    }
    of_parts(json, None)
}

/// Of the file, and of the list of merges where it has none itself.
fn of_parts(json: &[u8], list: Option<&[u8]>) -> Result<Built, Refusal> {
    thread::scope(|scope| {
        let list = list.map(|list| scope.spawn(|| MergeList::parse(list)));
        let json = str::from_utf8(json).map_err(|_| NOT_PAIRS)?;
        let mut definition: Definition<'_> = serde_json::from_str(json).map_err(|_| NOT_PAIRS)?;
        let own = std::mem::take(&mut definition.model.merges);
        let list = || match list {
            Some(list) => {
                let list = list.join().map_err(|_| "its merges cannot be read")?;
                list.map_err(|_| NOT_PAIRS)
            }
            None => Ok(own),
        };
        of_definition(&definition, &Ids::new(&definition)?, list)
    })
}

/// Does two things at once, the first of them here.
pub(super) fn at_once<A, B: Send>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> (A, B) {
    thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        match there.join() {
            Ok(there) => (here, there),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// Of all but the merges, which are read meanwhile, and their list when it is needed.
fn of_definition<'a>(
    definition: &Definition<'_>,
    ids: &Ids<'_>,
    list: impl FnOnce() -> Result<MergeList<'a>, Refusal>,
) -> Result<Built, Refusal> {
    check(&definition.model)?;
    let spelling = Spelling::of(&definition.decoder);
    let (normal, cut) = structure(definition, spelling)?;
    let (before, behind) =
        around(&definition.post_processor).ok_or("its post-processor is none of those known")?;
    let (raw, normalized) = added(&definition.added_tokens, normal)?;
    let pieces = pieces(definition, ids, list, spelling, normal)?;
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
        added: definition.added_tokens.clone(),
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
fn pieces<'a>(
    definition: &Definition<'_>,
    ids: &Ids<'_>,
    list: impl FnOnce() -> Result<MergeList<'a>, Refusal>,
    spelling: Spelling,
    normal: Normal,
) -> Result<Pieces, Refusal> {
    let model = &definition.model;
    let spelled = spelled(definition, ids, spelling, normal)?;
    let is_symbol = |(name, in_model): (&&str, &bool)| *in_model && is_symbol(name);
    let symbols: Vec<bool> = ids.names.iter().zip(&ids.in_model).map(is_symbol).collect();
    let lengths: Vec<u32> = ids.names.iter().map(|name| name.len() as u32).collect();
    // Texts hold no token whose spelling is not that of text.
    let is_text = |name: &str| match spelling {
        Spelling::ByteLevel => is_byte_level(name),
        _ => !name.contains(' '),
    };
    let may_be_made = |(name, in_model): (&&str, &bool)| *in_model && is_text(name);
    let candidates: Vec<bool> = ids
        .names
        .iter()
        .zip(&ids.in_model)
        .map(may_be_made)
        .collect();
    let list = merges(&list()?, ids)?;
    let (merged, sorted) = at_once(
        || Merges::new(&list, &symbols, &lengths),
        || Sorted::new(&spelled, &candidates),
    );
    let (merges, numbers) = merged.ok_or("a merge comes twice")?;
    let is_known = |((candidate, number), name): ((&bool, &u32), &&str)| {
        let is_made = *number != NONE;
        *candidate && (is_made || model.ignore_merges && !name.is_empty())
    };
    let all = candidates.iter().zip(&numbers).zip(&ids.names);
    let known: Vec<bool> = all.map(is_known).collect();
    let (found, trie) = at_once(|| Found::new(&spelled, &known), || sorted.trie(&numbers));
    let bytes = byte_tokens(ids, spelling)?;
    Ok(Pieces::new(
        Vocabulary { spelled, found },
        merges,
        trie,
        &bytes,
    ))
}

/// The bytes of all tokens by id.
fn spelled(
    definition: &Definition<'_>,
    ids: &Ids<'_>,
    spelling: Spelling,
    normal: Normal,
) -> Result<Spelled, Refusal> {
    let mut others = HashMap::new();
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
            others.insert(added.id, content);
        }
    }
    let names = (0..).zip(&ids.names);
    Ok(Spelled::new(names, |(id, name), bytes| {
        spelling.append(others.get(&id).map_or(name, |other| other), bytes);
    }))
}

/// Tokens in the order of their bytes.
struct Sorted {
    spelled: Spelled,
    ids: Vec<u32>,
    /// Of places here; of equal ones the first.
    trie: Trie,
}

impl Sorted {
    /// Those tokens of which `is_there` says so.
    fn new(spelled: &Spelled, is_there: &[bool]) -> Self {
        // The first bytes as a number are compared faster, and mostly tell.
        let first = |bytes: &[u8]| {
            let mut first = [0; 8];
            let count = bytes.len().min(8);
            first[..count].copy_from_slice(&bytes[..count]);
            u64::from_be_bytes(first)
        };
        let all = (0..).zip(spelled.each()).zip(is_there);
        let mut sorted: Vec<(u64, u32)> = all
            .filter(|(_, is_there)| **is_there)
            .map(|((id, bytes), _)| (first(bytes), id))
            .collect();
        sorted.sort_unstable_by(|(a, id), (b, other)| {
            let whole = || (spelled.bytes_of(*id), id).cmp(&(spelled.bytes_of(*other), other));
            a.cmp(b).then_with(whole)
        });
        let ids = sorted.iter().map(|(_, id)| *id).collect();
        // Side by side they are read faster, once for each of their bytes.
        let spelled = Spelled::new(sorted.iter(), |(_, id), all| {
            all.extend_from_slice(spelled.bytes_of(*id));
        });
        drop(sorted);
        let places: Vec<(&[u8], u32)> = spelled.each().zip(0..).collect();
        let trie = Trie::new(&places);
        Self { spelled, ids, trie }
    }

    /// The trie of tokens' numbers, without those that have [`NONE`]. Of equal tokens the one with the least number is
    /// there.
    fn trie(self, numbers: &[u32]) -> Trie {
        let Self { spelled, ids, trie } = self;
        trie.renamed(|place| {
            let begin = place as usize;
            let bytes = spelled.bytes_of(place);
            let equal = (place..)
                .zip(&ids[begin..])
                .take_while(|(place, _)| spelled.bytes_of(*place) == bytes);
            let numbers = equal.map(|(_, id)| numbers[*id as usize]);
            numbers.filter(|number| *number != NONE).min()
        })
    }
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
        return Err(NOT_PAIRS);
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
