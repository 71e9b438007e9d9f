//! Tokens in the order of their bytes, of which the trie is made while merges are sorted out.

use super::merges::NONE;
use super::trie::Trie;
use super::vocabulary::Spelled;

/// Tokens in the order of their bytes.
pub(super) struct Sorted {
    spelled: Spelled,
    ids: Vec<u32>,
    /// Of places here; of equal ones the first.
    trie: Trie,
}

impl Sorted {
    /// Those tokens of which `is_there` says so.
    pub(super) fn new(spelled: &Spelled, is_there: &[bool]) -> Self {
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
        let trie = Trie::new(&spelled);
        Self { spelled, ids, trie }
    }

    /// The trie of tokens' numbers, without those that have [`NONE`]. Of equal tokens the one with the least number is
    /// there.
    pub(super) fn trie(self, numbers: &[u32]) -> Trie {
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
