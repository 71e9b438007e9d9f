//! Holds back text that may become a tag; knows nothing of what tags mean.

/// The end of a text, of which it is not certain yet whether a tag begins there.
#[derive(Debug, Default)]
pub(super) struct Held(String);

/// What a text turned out to begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<T> {
    Text(char),
    Tag(T),
}

impl Held {
    pub(super) fn push(&mut self, next: char) {
        self.0.push(next);
    }

    /// Puts in front of everything what was taken too early.
    pub(super) fn put_back(&mut self, first: char) {
        self.0.insert(0, first);
    }

    /// Takes what the text begins with, as soon as that is certain. It is a tag or a character that
    /// begins none of `tags`, so never more is held than the longest tag has.
    pub(super) fn next<T>(
        &mut self,
        tags: impl Iterator<Item = (&'static str, T)>,
    ) -> Option<Seen<T>> {
        let mut may_become_one = false;
        for (text, tag) in tags {
            if self.0.starts_with(text) {
                self.0.drain(..text.len());
                return Some(Seen::Tag(tag));
            }
            may_become_one |= text.starts_with(self.0.as_str());
        }
        if may_become_one {
            return None;
        }
        self.pop().map(Seen::Text)
    }

    /// Takes the first character, whatever it may become.
    pub(super) fn pop(&mut self) -> Option<char> {
        let first = self.0.chars().next()?;
        self.0.remove(0);
        Some(first)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Seen};

    /// What is seen in `text`: characters as they are, tags in brackets, then what is still held.
    fn seen(text: &str, tags: &[&'static str]) -> (String, String) {
        let mut held = Held::default();
        let mut all = String::new();
        for next in text.chars() {
            held.push(next);
            while let Some(seen) = held.next(tags.iter().map(|tag| (*tag, *tag))) {
                match seen {
                    Seen::Text(text) => all.push(text),
                    Seen::Tag(tag) => all.extend(["[", tag, "]"]),
                }
            }
        }
        let rest = std::iter::from_fn(|| held.pop()).collect();
        (all, rest)
    }

    #[test]
    fn a_tag_is_found_wherever_it_begins() {
        let tags = ["<a>", "<ab>", "é<"];
        for (text, wanted, rest) in [
            ("x<a>y", "x[<a>]y", ""),
            ("<<a><ab>", "<[<a>][<ab>]", ""),
            ("<a<a<a", "<a<a", "<a"),
            ("é<é<é", "[é<][é<]", "é"),
            ("<é", "<", "é"),
            ("", "", ""),
        ] {
            assert_eq!(seen(text, &tags), (wanted.into(), rest.into()), "{text:?}");
        }
    }
}
