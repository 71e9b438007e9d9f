//! A call whose text is still coming in; knows where it ends and how it is read, not what becomes of
//! it.

use super::Call;
use super::ending::{Finder, Tag};
use super::json::{self, Step};
use super::style::{Body, End};
use super::tool::Tools;

/// The text of a call so far.
#[derive(Debug)]
pub(super) struct Open {
    body: &'static Body,
    /// Everything, with its opening tag.
    raw: String,
    /// Where the text to be read begins.
    start: usize,
    seeker: Seeker,
}

#[derive(Debug)]
enum Seeker {
    Tag(Finder),
    Json(json::End),
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With this many bytes of a tag.
    Whole(usize),
    /// With a tag that begins something else.
    Before(&'static str),
    /// It cannot become a call with this character.
    Broken(char),
}

impl Open {
    /// A call that begins with `raw`.
    pub(super) fn new(body: &'static Body, raw: String) -> Self {
        let start = if body.with_tag { 0 } else { raw.len() };
        let seeker = match &body.end {
            End::Tag(ending) => Seeker::Tag(Finder::new(ending)),
            End::Json(before) => {
                let mut end = json::End::new();
                for next in raw[start..].chars() {
                    end.step(next, *before);
                }
                Seeker::Json(end)
            }
        };
        Self {
            body,
            raw,
            start,
            seeker,
        }
    }

    pub(super) fn step(&mut self, next: char) -> Option<Ended> {
        self.raw.push(next);
        match (&mut self.seeker, &self.body.end) {
            (Seeker::Tag(finder), _) => Some(match finder.step(next)? {
                Tag::Own(tag) => Ended::Whole(tag.len()),
                Tag::Foreign(tag) => {
                    self.raw.truncate(self.raw.len() - tag.len());
                    Ended::Before(tag)
                }
            }),
            (Seeker::Json(end), End::Json(before)) => match end.step(next, *before) {
                Step::More => None,
                Step::Whole => Some(Ended::Whole(0)),
                Step::Broken => {
                    self.raw.pop();
                    Some(Ended::Broken(next))
                }
            },
            (Seeker::Json(_), End::Tag(_)) => None,
        }
    }

    /// The calls, where the last `tag` bytes are no part of them; none where this is no call.
    pub(super) fn read(&self, tag: usize, tools: &Tools) -> Option<Vec<Call>> {
        let text = &self.raw[self.start..self.raw.len() - tag];
        (self.body.read)(text, tools).filter(|calls| !calls.is_empty())
    }

    /// The calls where the text ended before the tag that should end them, or within that.
    pub(super) fn read_unended(&self, tools: &Tools) -> Option<Vec<Call>> {
        let held = match &self.seeker {
            Seeker::Tag(finder) => finder.held(),
            Seeker::Json(_) => 0,
        };
        self.read(0, tools).or_else(|| self.read(held, tools))
    }

    /// All of the text as it came.
    pub(super) fn into_raw(self) -> String {
        self.raw
    }
}
