//! Random tokens that stand for a text. Knows no text.

/// Draws from the tokens that a text may hold.
#[derive(Debug)]
pub(crate) struct Tokens {
    ordinary: Vec<u32>,
    state: u64,
}

impl Tokens {
    /// Draws from `ordinary`, the same ones for the same `seed`.
    pub(crate) fn new(ordinary: Vec<u32>, seed: u64) -> Self {
        Self {
            ordinary,
            state: seed,
        }
    }

    /// The next `count` of them.
    pub(crate) fn draw(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// By `SplitMix64` (Steele et al. 2014).
    fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.ordinary[((z ^ (z >> 31)) % self.ordinary.len() as u64) as usize]
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
