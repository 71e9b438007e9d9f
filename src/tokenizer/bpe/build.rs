//! From `tokenizer.json` to an encoder, or to the reason why there is none.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::{mem, ptr, thread};

use super::Encoder;
use super::added::Added;
use super::around::around;
use super::definition::{AddedToken, Definition, MergeList, Model, last_merges};
use super::ids::{Ids, byte_tokens, merges};
use super::merges::{Merge, Merges, NONE};
use super::normal::normalize;
use super::piece::Pieces;
use super::scan::Seams;
use super::scratch::Scratches;
use super::sorted::Sorted;
use super::structure::{self, Cut, Normal};
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

/// Builds an encoder of a file, which is given up as soon as it is read.
///
/// # Errors
/// What of the file is not known here.
pub(in super::super) fn build(json: Cow<'static, [u8]>) -> Result<Built, Refusal> {
    let needed = Needed::new(&json)?;
    drop(json);
    needed.built()
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

/// What is needed of a file.
struct Needed {
    spelling: Spelling,
    normal: Normal,
    cut: Cut,
    added: Vec<AddedToken>,
    before: Vec<u32>,
    behind: Vec<u32>,
    /// Whether a piece that is a token is that token, however it would be merged.
    ignore_merges: bool,
    /// By id, as what follows.
    tokens: Vec<Token>,
    spelled: Spelled,
    /// Bytes of names as the file has them.
    lengths: Vec<u32>,
    /// Whether text consists of it before anything is merged.
    symbols: Vec<bool>,
    /// Whether texts may hold it.
    candidates: Vec<bool>,
    merges: Vec<Merge>,
    /// The tokens of bytes.
    bytes: [u32; 256],
}

impl Needed {
    fn new(json: &[u8]) -> Result<Self, Refusal> {
        thread::scope(|scope| {
            let ahead =
                last_merges(json).map(|list| (list, scope.spawn(|| MergeList::parse(list))));
            let json = str::from_utf8(json).map_err(|_| NOT_PAIRS)?;
            let mut definition: Definition<'_> =
                serde_json::from_str(json).map_err(|_| NOT_PAIRS)?;
            let merges = definition.model.merges.get().as_bytes();
            let list = || match ahead {
                Some((list, parsed)) if ptr::eq(list, merges) => {
                    let list = parsed.join().map_err(|_| "its merges cannot be read")?;
                    list.map_err(|_| NOT_PAIRS)
                }
                _ => MergeList::parse(merges).map_err(|_| NOT_PAIRS),
            };
            let vocab = mem::take(&mut definition.model.vocab);
            let ids = Ids::new(vocab, &definition.added_tokens)?;
            Self::of_definition(&definition, &ids, list)
        })
    }

    /// Of all but the merges, which are read meanwhile, and their list when it is needed.
    fn of_definition<'a>(
        definition: &Definition<'_>,
        ids: &Ids<'_>,
        list: impl FnOnce() -> Result<MergeList<'a>, Refusal>,
    ) -> Result<Self, Refusal> {
        check(&definition.model)?;
        let spelling = Spelling::of(&definition.decoder);
        let (normal, cut) = structure(definition, spelling)?;
        let (before, behind) = around(&definition.post_processor)
            .ok_or("its post-processor is none of those known")?;
        // Texts hold no token whose spelling is not that of text.
        let is_text = |name: &str| match spelling {
            Spelling::ByteLevel => is_byte_level(name),
            _ => !name.contains(' '),
        };
        let of_model = |is_so: &dyn Fn(&str) -> bool| {
            let names = ids.names.iter().zip(&ids.in_model);
            names
                .map(|(name, in_model)| *in_model && is_so(name))
                .collect()
        };
        Ok(Self {
            spelling,
            normal,
            cut,
            added: definition.added_tokens.clone(),
            before,
            behind,
            ignore_merges: definition.model.ignore_merges,
            tokens: ids.tokens(&definition.added_tokens, spelling),
            spelled: spelled(definition, ids, spelling, normal)?,
            lengths: ids.names.iter().map(|name| name.len() as u32).collect(),
            symbols: of_model(&is_symbol),
            candidates: of_model(&is_text),
            bytes: byte_tokens(ids, spelling)?,
            // Last, since the list may have to be waited for.
            merges: merges(&list()?, ids)?,
        })
    }

    fn built(self) -> Result<Built, Refusal> {
        let (raw, normalized) = added(&self.added, self.normal)?;
        let (merged, sorted) = at_once(
            || Merges::new(self.merges, &self.symbols, &self.lengths),
            || Sorted::new(&self.spelled, &self.candidates),
        );
        let (merges, numbers) = merged.ok_or("a merge comes twice")?;
        let is_known = |((candidate, number), length): ((&bool, &u32), &u32)| {
            *candidate && (*number != NONE || self.ignore_merges && *length > 0)
        };
        let all = self.candidates.iter().zip(&numbers).zip(&self.lengths);
        let known: Vec<bool> = all.map(is_known).collect();
        let (found, trie) = at_once(
            || Found::new(&self.spelled, &known),
            || sorted.trie(&numbers),
        );
        let vocabulary = Vocabulary {
            spelled: self.spelled,
            found,
        };
        let pieces = Pieces::new(vocabulary, merges, trie, &self.bytes);
        let seams = match self.cut {
            Cut::Seams => Seams::new(pieces.made().map(|token| pieces.vocabulary.bytes_of(token))),
            _ => Seams::none(),
        };
        Ok(Built {
            encoder: Encoder {
                pieces,
                seams,
                cut: self.cut,
                normal: self.normal,
                raw,
                normalized,
                scratches: Scratches::default(),
            },
            pieces: self.spelling,
            tokens: self.tokens,
            added: self.added,
            before: self.before,
            behind: self.behind,
        })
    }
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
