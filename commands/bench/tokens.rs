//! Random numbers, and tokens that stand for a text. Knows no text.

/// The same numbers for the same seed, everywhere: `SplitMix64` (Steele et al. 2014).
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Draws from the tokens that a text may hold.
#[derive(Debug)]
pub(crate) struct Tokens {
    ordinary: Vec<u32>,
    numbers: Numbers,
}

impl Tokens {
    /// Draws from `ordinary`, the same ones for the same `seed`.
    pub(crate) fn new(ordinary: Vec<u32>, seed: u64) -> Self {
        Self {
            ordinary,
            numbers: Numbers::new(seed),
        }
    }

    /// The next `count` of them.
    pub(crate) fn draw(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> u32 {
        self.ordinary[(self.numbers.next() % self.ordinary.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::Tokens;

    #[test]
    fn draws_differ_from_one_to_the_next_and_repeat_with_the_seed() {
        let ordinary: Vec<u32> = (100..1100).collect();
        let mut tokens = Tokens::new(ordinary.clone(), 1);
        let (first, second) = (tokens.draw(50), tokens.draw(50));
        assert_ne!(first, second);
        assert!(first.iter().all(|id| ordinary.contains(id)));
        assert_eq!(Tokens::new(ordinary, 1).draw(50), first);
    }
}
