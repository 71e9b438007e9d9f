//! Finds the tag that ends a call, as its text comes in; knows nothing of what stands in the call.

use super::held::{Held, Seen};

/// How calls of a family end.
#[derive(Debug)]
pub(super) struct Ending {
    /// The tags that belong to the call.
    pub(super) own: &'static [&'static str],
    /// Tags that end a call as well, and then mean what they mean elsewhere.
    pub(super) foreign: &'static [&'static str],
    /// What values stand between. In there all tags are text.
    pub(super) fences: &'static [Fence],
}

/// What a value begins and ends with.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
}

/// The fence around strings of JSON, in which a backslash escapes.
pub(super) const QUOTES: Fence = Fence {
    open: "\"",
    close: "\"",
};

/// The tag that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Own(&'static str),
    Foreign(&'static str),
}

/// Looks for the end of one call.
#[derive(Debug)]
pub(super) struct Finder {
    ending: &'static Ending,
    held: Held,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Outside,
    /// Until this tag.
    Fenced(&'static str),
    String {
        is_escaped: bool,
    },
    /// After a string that is none. Whatever this is, the next end is its end.
    Broken,
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    End(Tag),
    Open(&'static Fence),
    Close,
}

impl Finder {
    pub(super) fn new(ending: &'static Ending) -> Self {
        Self {
            ending,
            held: Held::default(),
            place: Place::Outside,
        }
    }

    /// The tag that `next` completes.
    pub(super) fn step(&mut self, next: char) -> Option<Tag> {
        self.held.push(next);
        loop {
            if let Place::String { is_escaped } = self.place {
                self.place = after(self.held.pop()?, is_escaped);
                continue;
            }
            let place = self.place;
            match self.held.next(marks(self.ending, place))? {
                Seen::Text(_) => {}
                Seen::Tag(Mark::End(tag)) => return Some(tag),
                Seen::Tag(Mark::Close) => self.place = Place::Outside,
                Seen::Tag(Mark::Open(fence)) if fence.open == QUOTES.open => {
                    self.place = Place::String { is_escaped: false };
                }
                Seen::Tag(Mark::Open(fence)) => self.place = Place::Fenced(fence.close),
            }
        }
    }

    /// How many bytes at the end may be the beginning of a tag.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

/// The place after another character of a string.
fn after(next: char, is_escaped: bool) -> Place {
    match next {
        _ if is_escaped => Place::String { is_escaped: false },
        '"' => Place::Outside,
        // JSON wants these escaped, so the closing quote is missing.
        _ if next < ' ' => Place::Broken,
        _ => Place::String {
            is_escaped: next == '\\',
        },
    }
}

/// The tags that mean something at a place.
fn marks(ending: &'static Ending, place: Place) -> impl Iterator<Item = (&'static str, Mark)> {
    let (close, is_outside) = match place {
        Place::Fenced(close) => (Some(close), false),
        _ => (None, true),
    };
    let is_whole = matches!(place, Place::Outside);
    let own = ending.own.iter().map(|tag| (*tag, Tag::Own(tag)));
    let foreign = ending.foreign.iter().map(|tag| (*tag, Tag::Foreign(tag)));
    let ends = own.chain(foreign).filter(move |_| is_outside);
    let fences = ending.fences.iter().filter(move |_| is_whole);
    ends.map(|(text, tag)| (text, Mark::End(tag)))
        .chain(fences.map(|fence| (fence.open, Mark::Open(fence))))
        .chain(close.map(|close| (close, Mark::Close)))
}

#[cfg(test)]
mod tests {
    use super::{Ending, Fence, Finder, QUOTES, Tag};

    static ENDING: Ending = Ending {
        own: &["</c>"],
        foreign: &["<c>"],
        fences: &[
            QUOTES,
            Fence {
                open: "<v>",
                close: "</v>",
            },
        ],
    };

    fn check(text: &str, wanted: Tag) {
        let mut finder = Finder::new(&ENDING);
        let mut found = text.chars().map(|next| finder.step(next));
        let at = found.position(|tag| tag.is_some());
        assert_eq!(at, Some(text.chars().count() - 1), "{text:?}");
        let mut finder = Finder::new(&ENDING);
        let found = text.chars().find_map(|next| finder.step(next));
        assert_eq!(found, Some(wanted), "{text:?}");
    }

    #[test]
    fn a_call_ends_at_a_tag_that_is_in_no_value() {
        let end = Tag::Own("</c>");
        check("{}</c>", end);
        check("{\"a\": \"</c>\\\"</c>\"}</c>", end);
        check("<v></c>\"</v></c>", end);
        check("<v></v>\"<v>\"</c>", end);
        check("{}<c>", Tag::Foreign("<c>"));
    }

    #[test]
    fn a_string_without_an_end_ends_with_its_line() {
        check("{\"a\": \"b}\n</c>", Tag::Own("</c>"));
    }
}
