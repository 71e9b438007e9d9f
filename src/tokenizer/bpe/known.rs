//! The ids of pieces that came before, one after the other: most texts are of such pieces alone, and a short one is done
//! before anything that tells many new pieces together would have begun.

use super::cache::{Cache, SHORT_TOKENS};
use super::hash;
use super::key::{Key, SHORT_BYTES};
use super::scan::PIECES;
use crate::kernels::text::Work;

/// Room for the ids of [`PIECES`] pieces whose ids are beside them.
pub(super) const IDS: usize = (PIECES * SHORT_TOKENS).next_power_of_two();

/// Ids on their way.
pub(super) type Buffer = [u32; IDS + SHORT_TOKENS];

/// Appending the ids of the pieces of `bytes` from `begin` on that end at `ends`, up to one that is new; gives how many
/// they are.
pub(super) struct NameKnown<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) begin: usize,
    pub(super) ends: &'a [usize],
    pub(super) cache: &'a Cache,
    pub(super) keys: &'a mut [Key],
    /// Room for as many places.
    pub(super) places: &'a mut [u16],
    pub(super) ids: &'a mut Buffer,
    pub(super) out: &'a mut Vec<u32>,
}

impl Work for NameKnown<'_> {
    type Result = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let Self {
            cache,
            ids,
            out,
            ends,
            ..
        } = self;
        let keys = &mut self.keys[..ends.len()];
        let places = &mut self.places[..ends.len()];
        cache.look_for(self.bytes, self.begin, ends, keys, places);
        let mut count = 0;
        for (index, (key, place)) in keys.iter().zip(&*places).enumerate() {
            let short = cache.at(*place);
            let (tokens, length) = short.tokens();
            if short.key() == *key && length > 0 {
                // What is told by the remainder is that there is room.
                let place = count % IDS;
                ids[place..=place + SHORT_TOKENS].copy_from_slice(&tokens);
                count += length;
            } else {
                out.extend_from_slice(&ids[..count]);
                count = 0;
                let begin = index.checked_sub(1).map_or(self.begin, |last| ends[last]);
                let Some(tokens) = find(cache, *key, &self.bytes[begin..ends[index]]) else {
                    return index;
                };
                out.extend_from_slice(tokens);
            }
        }
        out.extend_from_slice(&ids[..count]);
        ends.len()
    }
}

/// The tokens of a piece that is not where it is looked for first, or whose tokens are not beside it.
#[inline(never)]
fn find<'a>(cache: &'a Cache, key: Key, piece: &[u8]) -> Option<&'a [u32]> {
    if piece.len() <= SHORT_BYTES {
        cache.find(key)
    } else {
        let place = cache.long.find(piece, hash::of_bytes(piece))?;
        Some(cache.long.tokens(place))
    }
}
