//! Where a long text may be cut, so that it need not be in memory as a whole.

use super::Encoder;
use super::added::Added;
use super::classes::{LETTER, SPACE, character_at, class_of};
use super::structure::{Before, Normal};

impl Encoder {
    /// Where a text may be cut at last: what is before has the tokens that it has in the whole, whatever comes behind
    /// `text`, and so has what is behind. `None` where there is no such place that is easily found.
    ///
    /// That is where a letter begins a line, and something else than white space ends the one before.
    pub(in super::super) fn last_cut(&self, text: &str) -> Option<usize> {
        let adds = match self.normal {
            Normal::Same | Normal::Composed => false,
            Normal::Spaces { before, .. } => before != Before::Nothing,
        };
        if adds || self.normalized.is_some() && self.normal != Normal::Same {
            return None;
        }
        let added = [&self.raw, &self.normalized].into_iter().flatten();
        let longest = added.map(Added::longest).max().unwrap_or(0);
        let bytes = text.as_bytes();
        // What begins there must be seen whole: an added token, or a character.
        let mut end = bytes.len().checked_sub(longest.max(4))?;
        while let Some(line) = memchr::memrchr(b'\n', &bytes[..end]) {
            if self.is_cut(text, line + 1) {
                return Some(line + 1);
            }
            end = line;
        }
        None
    }

    fn is_cut(&self, text: &str, at: usize) -> bool {
        let last = text[..at - 1].chars().next_back();
        let (next, _) = character_at(text.as_bytes(), at);
        last.is_some_and(|last| class_of(last) & SPACE == 0)
            && class_of(next) & LETTER != 0
            && self.seams.is_between('\n', next)
            && [&self.raw, &self.normalized]
                .into_iter()
                .flatten()
                .all(|added| added.leaves(text.as_bytes(), at))
    }
}
