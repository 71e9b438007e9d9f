//! Tokens that may be chosen, one bit for each. Knows nothing of why.

/// Tokens of a word.
const BITS: usize = u64::BITS as usize;

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mask {
    words: Vec<u64>,
}

impl Mask {
    /// The tokens whose bits are set, from the lowest bit of the first word on, among the first `count`.
    pub fn of_bits(halves: &[u32], count: usize) -> Self {
        let word = |pair: &[u32]| {
            let high = pair.get(1).copied().unwrap_or(0);
            u64::from(high) << 32 | u64::from(pair[0])
        };
        let mut words: Vec<u64> = halves.chunks(2).map(word).collect();
        words.truncate(count.div_ceil(BITS));
        if words.len() * BITS > count
            && let Some(last) = words.last_mut()
        {
            *last &= u64::MAX >> (BITS - count % BITS);
        }
        Self { words }
    }

    /// Adds a token.
    pub fn insert(&mut self, id: u32) {
        let word = id as usize / BITS;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id as usize % BITS);
    }

    /// Whether a token is among them.
    pub fn contains(&self, id: u32) -> bool {
        self.word(id as usize / BITS) >> (id as usize % BITS) & 1 == 1
    }

    /// The bits of the tokens from `64 * index` on.
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// All tokens, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let words = (0..).zip(&self.words);
        words.flat_map(|(index, &word)| bits(word).map(move |bit| index * u64::BITS + bit))
    }
}

impl FromIterator<u32> for Mask {
    fn from_iter<T: IntoIterator<Item = u32>>(ids: T) -> Self {
        let mut mask = Self::default();
        for id in ids {
            mask.insert(id);
        }
        mask
    }
}

/// The places of the set bits of a word, ascending.
pub fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros());
        word &= word.wrapping_sub(1);
        bit
    })
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn bits_are_tokens() {
        let mask = Mask::of_bits(&[1, 1 << 31, 0b101], 67);
        assert_eq!(mask.ids().collect::<Vec<_>>(), [0, 63, 64, 66]);
        assert_eq!(mask, [66, 64, 63, 0].into_iter().collect());
        assert_eq!((mask.word(1), mask.word(2)), (0b101, 0));
        assert!(mask.contains(63) && !mask.contains(65) && !mask.contains(1000));
    }

    #[test]
    fn what_lies_beyond_the_count_is_left_out() {
        for count in 0..130 {
            let mask = Mask::of_bits(&[u32::MAX; 5], count);
            assert!(mask.ids().eq(0..count as u32), "{count}");
        }
    }
}
