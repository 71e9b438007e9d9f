//! What there is to say about a family: its tags and what they mean. Knows no family.

use super::Call;
use super::ending::Ending;
use super::json::Before;
use super::tool::Tools;

/// How a family of models writes.
#[derive(Debug)]
pub(super) struct Style {
    pub(super) tags: &'static [Tag],
    /// Every message has a header.
    pub(super) header: Option<&'static Header>,
    /// What may stand between calls, beside white space.
    pub(super) joints: &'static [char],
}

/// A text that means something.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) text: &'static str,
    pub(super) means: Means,
    /// It means something before anything was said only; that is also so after a call.
    pub(super) at_begin: bool,
}

/// What a tag means.
#[derive(Debug)]
pub(super) enum Means {
    /// Thinking begins.
    Think,
    /// Thinking ends.
    Answer,
    /// A call begins.
    Call(&'static Body),
    /// A call has ended; here it ends nothing.
    CallEnd,
    /// An answer begins or ends, which is known anyway.
    Nothing,
    /// The header of a message begins.
    Header,
    /// The header has ended.
    Message,
    /// The message has ended.
    End,
}

/// What stands in a call.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) end: End,
    /// Reads all calls in there; none where it is anything else.
    pub(super) read: fn(&str, &Tools) -> Option<Vec<Call>>,
    /// The opening tag is read as well.
    pub(super) with_tag: bool,
}

/// Where a call ends.
#[derive(Debug)]
pub(super) enum End {
    Tag(Ending),
    /// With its JSON.
    Json(Before),
}

/// What the headers of a family look like.
#[derive(Debug)]
pub(super) struct Header {
    /// What may stand in it after the role.
    pub(super) begins: &'static [&'static str],
    pub(super) kind: fn(&str, &Tools) -> Kind,
}

/// What a message is, by its header.
#[derive(Debug)]
pub(super) enum Kind {
    Thinking,
    Content,
    /// Not for the user, but nobody else takes it: header and all are the answer.
    Verbatim,
    Call(&'static Body),
}

impl Style {
    /// No tags: everything is the answer.
    pub(super) const PLAIN: Self = Self {
        tags: &[],
        header: None,
        joints: &[],
    };
}

impl Tag {
    pub(super) const fn new(text: &'static str, means: Means) -> Self {
        Self {
            text,
            means,
            at_begin: false,
        }
    }

    pub(super) const fn at_begin(text: &'static str, means: Means) -> Self {
        Self {
            text,
            means,
            at_begin: true,
        }
    }
}

/// How most models write their thinking.
pub(super) const THINK: Tag = Tag::at_begin("<think>", Means::Think);
/// How most models end their thinking.
pub(super) const THINK_END: Tag = Tag::new("</think>", Means::Answer);
