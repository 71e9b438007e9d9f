//! Takes a text apart character by character, by the style of its family. Knows no family.

use super::Part;
use super::call::{Ended, Open};
use super::held::{Held, Seen};
use super::style::{Header, Kind, Means, Style, Tag};
use super::tool::Tools;

/// What a message begins with, in families that give it a header.
const START: &str = "<|start|>";
/// Who writes the messages that are taken apart.
const ROLE: &str = "assistant";
/// Bytes that a header may have. Anything longer is text that only looks like one.
const HEADER: usize = 256;

/// A text in the making. All depends on the sequence of characters alone, so it never matters in
/// which pieces they came.
#[derive(Debug)]
pub(super) struct Machine {
    style: &'static Style,
    tools: Tools,
    state: State,
    held: Held,
    /// White space, which belongs to a tag if one follows.
    blank: String,
    skip: Skip,
    /// Nothing was said yet, or nothing since the last call.
    is_begin: bool,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum State {
    /// In the header of a message, of which this came.
    Header(String),
    Thinking,
    Answer,
    Call(Open),
}

/// White space to leave out, as it belongs to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    LineEnds,
    AfterCall,
}

impl Machine {
    /// For the text that follows `prompt`, which may have begun thinking or a message already.
    pub(super) fn new(style: &'static Style, prompt: &str, tools: Tools) -> Self {
        let mut machine = Self {
            style,
            tools,
            state: State::Answer,
            held: Held::default(),
            blank: String::new(),
            skip: Skip::Nothing,
            is_begin: true,
            parts: Vec::new(),
        };
        if style.header.is_some() {
            machine.state = State::Header(String::new());
            if let Some(at) = prompt.rfind(START) {
                machine.push(&prompt[at..]);
                machine.blank.clear();
            }
        }
        let end = prompt.trim_end();
        let mut thinks = style.tags.iter();
        if thinks.any(|tag| matches!(tag.means, Means::Think) && end.ends_with(tag.text)) {
            machine.state = State::Thinking;
            machine.skip = Skip::LineEnds;
        }
        machine
    }

    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        for next in text.chars() {
            self.held.push(next);
            while self.step() {}
        }
        std::mem::take(&mut self.parts)
    }

    /// Nothing follows. A call that has no end yet is read only if the model wanted to end here.
    pub(super) fn finish(&mut self, is_complete: bool) -> Vec<Part> {
        while !matches!(self.state, State::Call(_)) {
            let Some(next) = self.held.pop() else {
                break;
            };
            self.text(next);
        }
        match std::mem::replace(&mut self.state, State::Answer) {
            State::Call(call) if is_complete => {
                let calls = call.read_unended(&self.tools);
                self.settle(call, calls);
            }
            State::Call(_) => self.blank.clear(),
            State::Header(header) => self.end_in_header(&header),
            State::Thinking | State::Answer => {}
        }
        self.say("");
        std::mem::take(&mut self.parts)
    }

    /// Does what can be done with the held text; false if more of it has to come.
    fn step(&mut self) -> bool {
        if let State::Call(call) = &mut self.state {
            let Some(next) = self.held.pop() else {
                return false;
            };
            if let Some(ended) = call.step(next) {
                self.close(&ended);
            }
            return true;
        }
        let (state, is_begin, has_tools) = (&self.state, self.is_begin, !self.tools.is_empty());
        let tags = self.style.tags.iter();
        let tags = tags.filter(|tag| is_active(tag, state, is_begin, has_tools));
        match self.held.next(tags.map(|tag| (tag.text, tag))) {
            None => return false,
            Some(Seen::Text(next)) => self.text(next),
            Some(Seen::Tag(tag)) => self.tag(tag),
        }
        true
    }

    fn tag(&mut self, tag: &'static Tag) {
        match &tag.means {
            Means::Think => {
                self.blank.clear();
                self.state = State::Thinking;
                self.skip = Skip::LineEnds;
            }
            Means::Answer => {
                self.state = State::Answer;
                self.skip = Skip::LineEnds;
                self.is_begin = true;
            }
            Means::Call(body) => {
                self.skip = Skip::Nothing;
                self.state = State::Call(Open::new(body, tag.text.to_owned()));
            }
            Means::Nothing | Means::CallEnd if self.is_begin => self.blank.clear(),
            Means::Nothing | Means::CallEnd => {}
            Means::Header => self.open_header(tag.text),
            Means::End => self.open_header(""),
            Means::Message => self.open_message(tag.text),
        }
    }

    fn text(&mut self, next: char) {
        let is_skipped = match self.skip {
            Skip::Nothing => false,
            Skip::LineEnds => matches!(next, '\n' | '\r'),
            Skip::AfterCall => next.is_whitespace() || self.style.joints.contains(&next),
        };
        if is_skipped {
            return;
        }
        self.skip = Skip::Nothing;
        match &mut self.state {
            State::Thinking => add(&mut self.parts, next, Part::Thinking),
            State::Header(header) => {
                header.push(next);
                if let Some(known) = self.style.header
                    && !may_be_header(header, known)
                {
                    let text = without_role(header).to_owned();
                    self.say(&text);
                }
            }
            State::Answer | State::Call(_) => {
                let may_belong_to_tag = self.is_begin || !self.tools.is_empty();
                if next.is_whitespace() && may_belong_to_tag {
                    self.blank.push(next);
                } else {
                    self.say(next.encode_utf8(&mut [0; 4]));
                }
            }
        }
    }

    /// Adds `text` to the answer, and the white space before it.
    fn say(&mut self, text: &str) {
        self.state = State::Answer;
        let blank = std::mem::take(&mut self.blank);
        for next in blank.chars().chain(text.chars()) {
            add(&mut self.parts, next, Part::Content);
        }
        self.is_begin &= text.is_empty();
    }

    fn close(&mut self, ended: &Ended) {
        let State::Call(call) = std::mem::replace(&mut self.state, State::Answer) else {
            return;
        };
        match ended {
            Ended::Whole(tag) => {
                let calls = call.read(*tag, &self.tools);
                self.settle(call, calls);
            }
            Ended::Before(text) => {
                let calls = call.read(0, &self.tools);
                self.settle(call, calls);
                if let Some(tag) = self.style.tags.iter().find(|tag| tag.text == *text) {
                    self.tag(tag);
                }
            }
            Ended::Broken(next) => {
                self.held.put_back(*next);
                self.settle(call, None);
            }
        }
    }

    /// Hands out calls, or the text that turned out to be none.
    fn settle(&mut self, call: Open, calls: Option<Vec<super::Call>>) {
        match calls {
            Some(calls) => {
                self.blank.clear();
                self.parts.extend(calls.into_iter().map(Part::Call));
                self.skip = Skip::AfterCall;
                self.is_begin = true;
            }
            None => self.say(&call.into_raw()),
        }
    }

    /// Begins a header, or goes on with one in which another of its tags stands.
    fn open_header(&mut self, begin: &str) {
        match &mut self.state {
            State::Header(header) if begin != START && !begin.is_empty() => {
                header.push_str(begin);
                return;
            }
            State::Header(header) => {
                let header = std::mem::take(header);
                self.end_in_header(&header);
            }
            _ => {}
        }
        self.say("");
        self.skip = Skip::Nothing;
        self.state = State::Header(begin.to_owned());
    }

    fn open_message(&mut self, end: &str) {
        let state = std::mem::replace(&mut self.state, State::Answer);
        let (State::Header(header), Some(known)) = (state, self.style.header) else {
            return;
        };
        self.is_begin = true;
        let header = without_role(&header);
        match (known.kind)(header, &self.tools) {
            Kind::Thinking => self.state = State::Thinking,
            Kind::Content => {}
            Kind::Verbatim => self.say(&format!("{header}{end}")),
            Kind::Call(body) => {
                self.state = State::Call(Open::new(body, format!("{header}{end}")));
            }
        }
    }

    /// The text ended in a header, or in words that might have become one.
    fn end_in_header(&mut self, header: &str) {
        let text = without_role(header);
        let mut begins = self.style.header.iter().flat_map(|known| known.begins);
        if !text.trim().is_empty() && !begins.any(|begin| text.trim_start().starts_with(begin)) {
            self.say(text);
        }
    }
}

/// Whether a tag means something now.
fn is_active(tag: &Tag, state: &State, is_begin: bool, has_tools: bool) -> bool {
    if tag.at_begin && !is_begin {
        return false;
    }
    match (state, &tag.means) {
        (State::Header(_), means) => matches!(means, Means::Header | Means::Message | Means::End),
        (State::Thinking, means) => matches!(means, Means::Header | Means::Answer | Means::End),
        (_, Means::Answer | Means::Message) => false,
        (_, Means::Call(_) | Means::CallEnd) => has_tools,
        _ => true,
    }
}

/// Adds to the last part if that is of the same kind.
fn add(parts: &mut Vec<Part>, next: char, kind: fn(String) -> Part) {
    let fresh = kind(String::new());
    let is_same = |last: &Part| std::mem::discriminant(last) == std::mem::discriminant(&fresh);
    if !parts.last().is_some_and(is_same) {
        parts.push(fresh);
    }
    if let Some(Part::Thinking(text) | Part::Content(text)) = parts.last_mut() {
        text.push(next);
    }
}

/// A header without its beginning, as far as that came.
fn without_role(header: &str) -> &str {
    let text = header.strip_prefix(START).unwrap_or(header);
    text.strip_prefix(ROLE).unwrap_or(text)
}

/// Whether this may become a header, rather than an answer that has none.
fn may_be_header(header: &str, known: &Header) -> bool {
    let text = header.strip_prefix(START).unwrap_or(header).trim_start();
    let rest = text.strip_prefix(ROLE).unwrap_or(text).trim_start();
    let mut begins = known.begins.iter();
    header.len() <= HEADER
        && (ROLE.starts_with(text)
            || begins.any(|begin| begin.starts_with(rest) || rest.starts_with(begin)))
}
