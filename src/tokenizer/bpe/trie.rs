//! The longest token that a text begins with: a double array (Aoe 1989), in which one look tells where a byte leads.

use super::merges::NONE;
use super::vocabulary::Spelled;
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
    /// A trie of tokens in the order of their bytes, which gives their places there; of equal ones the first counts.
    /// Empty ones are not there.
    pub(super) fn new(tokens: &Spelled) -> Self {
        let mut builder = Builder {
            tokens,
            // Memory that is not written takes no room.
            cells: Vec::with_capacity(tokens.bytes.len() + BLOCK),
            is_base: Vec::new(),
            free: Vec::new(),
        };
        builder.cells.resize(BLOCK, EMPTY);
        builder.is_base.resize(BLOCK, false);
        builder.cells[0].label_and_token = ROOT;
        // By depth, since the first ones are visited most.
        let mut nodes = vec![Node {
            cell: 0,
            begin: 0,
            end: tokens.each().len() as u32,
        }];
        for depth in 0.. {
            let mut next = Vec::new();
            for node in nodes {
                builder.add(node, depth, &mut next);
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

/// A node whose children have no cells yet.
#[derive(Debug, Clone, Copy)]
struct Node {
    cell: u32,
    /// The places of the first token that goes through it, and behind the last one.
    begin: u32,
    end: u32,
}

struct Builder<'a> {
    tokens: &'a Spelled,
    cells: Vec<Cell>,
    is_base: Vec<bool>,
    /// Cells that are free, or were; the last ones are tried first.
    free: Vec<u32>,
}

impl Builder<'_> {
    /// Gives cells to the children of a node, which are what its tokens have at `depth`, and puts them behind `nodes`.
    fn add(&mut self, node: Node, depth: usize, nodes: &mut Vec<Node>) {
        let ends = |place: &u32| self.tokens.bytes_of(*place).len() == depth;
        let begin = (node.begin..node.end).find(|place| !ends(place));
        let begin = begin.unwrap_or(node.end);
        let cell = &mut self.cells[node.cell as usize];
        if begin > node.begin && depth > 0 {
            cell.label_and_token = cell.label_and_token & !NO_TOKEN | node.begin;
        }
        if begin == node.end {
            // A base that leads nowhere is no base: beyond the array.
            cell.base = NONE;
            return;
        }
        // First their bytes stand for their cells.
        let first = nodes.len();
        for place in begin..node.end {
            let label = u32::from(self.tokens.bytes_of(place)[depth]);
            match nodes[first..].last_mut() {
                Some(last) if last.cell == label => last.end = place + 1,
                _ => nodes.push(Node {
                    cell: label,
                    begin: place,
                    end: place + 1,
                }),
            }
        }
        let children = &mut nodes[first..];
        let base = self.base(children);
        self.is_base[base as usize] = true;
        self.cells[node.cell as usize].base = base;
        for child in children {
            let label = child.cell;
            child.cell ^= base;
            self.cells[child.cell as usize] = Cell::new(label as u8);
        }
    }

    /// A base from which all children have free cells.
    fn base(&mut self, children: &[Node]) -> u32 {
        let first = children[0].cell;
        let mut at = self.free.len();
        let end = at.saturating_sub(TRIES);
        while at > end {
            at -= 1;
            let cell = self.free[at];
            if !self.cells[cell as usize].is_empty() {
                self.free.swap_remove(at);
                continue;
            }
            let base = cell ^ first;
            let is_free = |child: &Node| self.cells[(base ^ child.cell) as usize].is_empty();
            if !self.is_base[base as usize] && children.iter().all(is_free) {
                return base;
            }
        }
        let block = self.cells.len();
        self.cells.resize(block + BLOCK, EMPTY);
        self.is_base.resize(block + BLOCK, false);
        self.free
            .extend((block as u32..(block + BLOCK) as u32).rev());
        block as u32 ^ first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_token_is_found(
            tokens in prop::collection::btree_set(prop::collection::vec(0u8..4, 1..6), 0..200),
            text in prop::collection::vec(0u8..5, 0..12),
        ) {
            let tokens: BTreeSet<Vec<u8>> = tokens;
            let sorted = Spelled::new(tokens.iter(), |token, bytes| bytes.extend(token));
            let place = |bytes: &[u8]| tokens.iter().position(|token| token == bytes);
            let longest = (1..=text.len()).rev().find_map(|length| Some((place(&text[..length])? as u32, length)));
            prop_assert_eq!(Trie::new(&sorted).longest(&text), longest);
        }
    }
}
