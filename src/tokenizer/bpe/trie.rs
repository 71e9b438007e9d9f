//! The longest token that a text begins with: a double array (Aoe 1989), in which one look tells where a byte leads.

use std::ops::Range;

use super::merges::NONE;
use crate::kernels::table::Table;

/// A node's place in the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Cell {
    /// A byte leads to the cell at this place, exclusively or the byte, if that cell says that it is reached by it. No
    /// two nodes have the same base.
    base: u32,
    /// From the highest bit on: the byte that the node is reached by and one more than zero, in 9 bits, so that an empty
    /// cell is reached by none; the token that ends here, in 22.
    label_and_token: u32,
}

/// Bits of a token.
const TOKEN_BITS: u32 = 22;
/// Stands for no token.
const NO_TOKEN: u32 = (1 << TOKEN_BITS) - 1;
/// Says of a cell that it is the root, which no byte leads to.
const ROOT: u32 = 1 << TOKEN_BITS | NO_TOKEN;
/// Cells among which the children of one node are.
const BLOCK: usize = 256;
/// Free cells that are tried before there are more.
const TRIES: usize = 256;

const EMPTY: Cell = Cell {
    base: 0,
    label_and_token: NO_TOKEN,
};

/// Tokens by their bytes. The first cell is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trie {
    pub(super) cells: Table<Cell>,
}

impl Cell {
    fn new(label: u8) -> Self {
        Self {
            base: 0,
            label_and_token: (0x100 | u32::from(label)) << TOKEN_BITS | NO_TOKEN,
        }
    }

    fn is_empty(self) -> bool {
        self.label_and_token >> TOKEN_BITS == 0
    }

    fn token(self) -> u32 {
        self.label_and_token & NO_TOKEN
    }
}

impl Trie {
    /// A trie of tokens, which are sorted by their bytes; of equal ones the first counts. Empty ones are not there.
    pub(super) fn new(tokens: &[(&[u8], u32)]) -> Self {
        let mut builder = Builder {
            cells: vec![EMPTY; BLOCK],
            is_base: vec![false; BLOCK],
            free: Vec::new(),
        };
        builder.cells[0].label_and_token = ROOT;
        // Nodes by depth, since the first ones are visited most: a place, and the tokens that go through it.
        let mut nodes = vec![(0, 0..tokens.len())];
        for depth in 0.. {
            let mut next = Vec::new();
            for (node, range) in nodes {
                builder.node(node, depth, range, tokens, &mut next);
            }
            if next.is_empty() {
                break;
            }
            nodes = next;
        }
        Self {
            cells: builder.cells.into(),
        }
    }

    /// The same with other tokens, and some of them not there any more.
    pub(super) fn renamed(mut self, name: impl Fn(u32) -> Option<u32>) -> Self {
        for cell in &mut *self.cells {
            if cell.token() != NO_TOKEN {
                let token = name(cell.token()).unwrap_or(NO_TOKEN);
                cell.label_and_token = cell.label_and_token & !NO_TOKEN | token;
            }
        }
        self
    }

    /// The longest token at the beginning of a text, and its length in bytes.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let (mut base, mut found) = (self.cells[0].base, None);
        for (at, byte) in text.iter().enumerate() {
            let Some(cell) = self.cells.get((base ^ u32::from(*byte)) as usize) else {
                break;
            };
            if cell.label_and_token >> TOKEN_BITS != 0x100 | u32::from(*byte) {
                break;
            }
            if cell.token() != NO_TOKEN {
                found = Some((cell.token(), at + 1));
            }
            base = cell.base;
        }
        found
    }
}

struct Builder {
    cells: Vec<Cell>,
    is_base: Vec<bool>,
    /// Cells that are free, or were; the last ones are tried first.
    free: Vec<u32>,
}

impl Builder {
    /// Places the children of a node: what the tokens of `range` have at `depth`.
    fn node(
        &mut self,
        node: usize,
        depth: usize,
        range: Range<usize>,
        tokens: &[(&[u8], u32)],
        next: &mut Vec<(usize, Range<usize>)>,
    ) {
        let mut begin = range.start;
        if let Some((_, token)) = tokens
            .get(begin)
            .filter(|(bytes, _)| depth > 0 && bytes.len() == depth)
        {
            let cell = &mut self.cells[node];
            cell.label_and_token = cell.label_and_token & !NO_TOKEN | token;
        }
        while begin < range.end && tokens[begin].0.len() == depth {
            begin += 1;
        }
        let mut children: Vec<(u8, Range<usize>)> = Vec::new();
        for (at, (bytes, _)) in (begin..).zip(&tokens[begin..range.end]) {
            let label = bytes[depth];
            match children.last_mut() {
                Some((last, range)) if *last == label => range.end = at + 1,
                _ => children.push((label, at..at + 1)),
            }
        }
        if children.is_empty() {
            // A base that leads nowhere is no base: beyond the array.
            self.cells[node].base = NONE;
            return;
        }
        let base = self.base(&children);
        self.is_base[base] = true;
        self.cells[node].base = base as u32;
        for (label, range) in children {
            let child = base ^ usize::from(label);
            self.cells[child] = Cell::new(label);
            next.push((child, range));
        }
    }

    /// A base from which all children have free cells.
    fn base(&mut self, children: &[(u8, Range<usize>)]) -> usize {
        let first = usize::from(children[0].0);
        let mut at = self.free.len();
        let end = at.saturating_sub(TRIES);
        while at > end {
            at -= 1;
            let cell = self.free[at] as usize;
            if !self.cells[cell].is_empty() {
                self.free.swap_remove(at);
                continue;
            }
            let base = cell ^ first;
            let is_free = |label: &u8| self.cells[base ^ usize::from(*label)].is_empty();
            if !self.is_base[base] && children.iter().all(|(label, _)| is_free(label)) {
                return base;
            }
        }
        let block = self.cells.len();
        self.cells.resize(block + BLOCK, EMPTY);
        self.is_base.resize(block + BLOCK, false);
        self.free
            .extend((block as u32..(block + BLOCK) as u32).rev());
        block ^ first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_token_is_found(
            tokens in prop::collection::btree_map(prop::collection::vec(0u8..4, 1..6), 0..1000u32, 0..200),
            text in prop::collection::vec(0u8..5, 0..12),
        ) {
            let tokens: BTreeMap<Vec<u8>, u32> = tokens;
            let sorted: Vec<(&[u8], u32)> = tokens.iter().map(|(bytes, token)| (&bytes[..], *token)).collect();
            let longest = (1..=text.len()).rev().find_map(|length| Some((*tokens.get(&text[..length])?, length)));
            prop_assert_eq!(Trie::new(&sorted).longest(&text), longest);
        }
    }
}
