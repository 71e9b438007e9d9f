//! Added tokens, which are found in a text before anything else is done with it.

use super::classes::{SPACE, character_at, class_of};
use super::definition::AddedToken;
use super::trie::Trie;
use super::vocabulary::Spelled;

/// How an added token is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seek {
    pub(super) token: u32,
    pub(super) special: bool,
    pub(super) single_word: bool,
    /// Takes the white space before it along.
    pub(super) lstrip: bool,
    /// Takes the white space behind it along.
    pub(super) rstrip: bool,
}

/// Some added tokens.
#[derive(Debug)]
pub(super) struct Added {
    /// By their bytes; what it gives are places in `seeks`.
    trie: Trie,
    seeks: Vec<Seek>,
    /// Bytes of the longest one.
    longest: usize,
    /// The bytes that they begin with.
    begins: Vec<u8>,
    /// Whether a byte is one of `begins`.
    is_begin: [bool; 256],
}

/// A part of a text: an added token, or what is between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) token: Option<u32>,
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Added {
    /// Tokens, with the bytes that they are found by. `None` where there are none.
    pub(super) fn new(tokens: Vec<(Vec<u8>, &AddedToken)>) -> Option<Self> {
        let mut sorted = tokens;
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut begins: Vec<u8> = sorted
            .iter()
            .filter_map(|(bytes, _)| bytes.first().copied())
            .collect();
        begins.dedup();
        let mut is_begin = [false; 256];
        for byte in &begins {
            is_begin[usize::from(*byte)] = true;
        }
        let seeks = sorted.iter().map(|(_, added)| Seek {
            token: added.id,
            special: added.special,
            single_word: added.single_word,
            lstrip: added.lstrip,
            rstrip: added.rstrip,
        });
        (!sorted.is_empty()).then(|| Self {
            seeks: seeks.collect(),
            trie: Trie::new(&Spelled::new(sorted.iter(), |(bytes, _), all| {
                all.extend(bytes);
            })),
            longest: sorted
                .iter()
                .map(|(bytes, _)| bytes.len())
                .max()
                .unwrap_or(0),
            begins,
            is_begin,
        })
    }

    /// The next place from `at` on where one could begin.
    #[inline]
    fn candidate(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = &text[at..];
        let found = match self.begins[..] {
            [a] => memchr::memchr(a, rest),
            [a, b] => memchr::memchr2(a, b, rest),
            [a, b, c] => memchr::memchr3(a, b, c, rest),
            _ => rest
                .iter()
                .position(|byte| self.is_begin[usize::from(*byte)]),
        };
        Some(at + found?)
    }

    /// Whether none of them begins anywhere in a text, as far as their first bytes tell that.
    pub(super) fn are_absent(&self, text: &[u8]) -> bool {
        self.candidate(text, 0).is_none()
    }

    /// Bytes of the longest one.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether a text may be cut at `at`, where a word begins, without effect on which of them are found.
    pub(super) fn leaves(&self, text: &[u8], at: usize) -> bool {
        let touches = |begin: usize| {
            self.trie
                .longest(&text[begin..])
                .is_some_and(|(seek, length)| {
                    let end = begin + length;
                    end > at || end == at && self.seeks[seek as usize].single_word
                })
        };
        !(at.saturating_sub(self.longest)..=at).any(touches)
    }

    /// Parts a text at the added tokens in it, the first and there the longest, and calls `give` with all parts in order.
    /// Special ones are text where they are not `special`.
    pub(super) fn split(&self, text: &[u8], special: bool, mut give: impl FnMut(Part)) {
        let (mut done, mut at) = (0, 0);
        while let Some(begin) = self.candidate(text, at) {
            let Some((seek, length)) = self.trie.longest(&text[begin..]) else {
                at = begin + 1;
                continue;
            };
            at = begin + length;
            let seek = self.seeks[seek as usize];
            if seek.special && !special {
                continue;
            }
            let (mut begin, mut end) = (begin, at);
            if seek.single_word && (word_ends(&text[..begin]) || word_begins(&text[end..])) {
                continue;
            }
            if seek.lstrip {
                begin = spaces_begin(&text[..begin]).max(done);
            }
            if seek.rstrip {
                end += spaces_end(&text[end..]);
            }
            if done < begin {
                give(Part {
                    token: None,
                    begin: done,
                    end: begin,
                });
            }
            if begin < end {
                give(Part {
                    token: Some(seek.token),
                    begin,
                    end,
                });
            }
            done = end;
        }
        if done != text.len() {
            give(Part {
                token: None,
                begin: done,
                end: text.len(),
            });
        }
    }
}

/// Where the last character of a text begins.
fn last_begin(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| byte & 0xc0 != 0x80)
}

fn word_ends(text: &[u8]) -> bool {
    last_begin(text).is_some_and(|at| regex_syntax::is_word_character(character_at(text, at).0))
}

fn word_begins(text: &[u8]) -> bool {
    !text.is_empty() && regex_syntax::is_word_character(character_at(text, 0).0)
}

/// Where the white space at the end of a text begins.
fn spaces_begin(text: &[u8]) -> usize {
    let mut end = text.len();
    while let Some(at) = last_begin(&text[..end])
        && class_of(character_at(text, at).0) & SPACE != 0
    {
        end = at;
    }
    end
}

/// Where the white space at the beginning of a text ends.
fn spaces_end(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        let (character, length) = character_at(text, at);
        if class_of(character) & SPACE == 0 {
            break;
        }
        at += length;
    }
    at
}
