//! Tells a model's thinking from its answer, piece by piece. Knows nothing of where they go.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits a stream of text. Thinking is what stands between `<think>`, where the text begins with
/// that, and `</think>`; the tags and the line ends after them belong to neither.
#[derive(Debug)]
pub(crate) struct Thinking {
    state: State,
    /// Text that may become a tag.
    held: String,
    /// A tag was just passed.
    after_tag: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All that came so far may become the opening tag.
    Start,
    Inside,
    Answer,
}

/// A piece of text, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) thinking: String,
    pub(crate) answer: String,
}

impl Thinking {
    /// For the text that follows `prompt`, which may have opened the thinking already.
    pub(crate) fn after(prompt: &str) -> Self {
        let inside = prompt.trim_end().ends_with(OPEN);
        Self::new(if inside { State::Inside } else { State::Start }, inside)
    }

    /// Takes everything for the answer.
    pub(crate) fn off() -> Self {
        Self::new(State::Answer, false)
    }

    fn new(state: State, after_tag: bool) -> Self {
        Self {
            state,
            held: String::new(),
            after_tag,
        }
    }

    /// What can be told after `text` has come.
    pub(crate) fn push(&mut self, text: &str) -> Split {
        self.held.push_str(text);
        let mut split = Split::default();
        if self.state == State::Start {
            let begin = self.held.trim_start();
            if let Some(rest) = begin.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.state = State::Inside;
                self.after_tag = true;
            } else if !OPEN.starts_with(begin) {
                self.state = State::Answer;
            }
        }
        if self.state == State::Inside {
            self.skip_line_ends();
            if let Some(at) = self.held.find(CLOSE) {
                split.thinking = self.held.drain(..at).collect();
                self.held.drain(..CLOSE.len());
                self.state = State::Answer;
                self.after_tag = true;
            } else {
                let kept = self.held.len() - unfinished(&self.held);
                split.thinking = self.held.drain(..kept).collect();
            }
        }
        if self.state == State::Answer {
            self.skip_line_ends();
            split.answer = std::mem::take(&mut self.held);
        }
        split
    }

    /// What was held, when no more text will come.
    pub(crate) fn finish(&mut self) -> Split {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Inside => Split {
                thinking: held,
                answer: String::new(),
            },
            State::Start | State::Answer => Split {
                thinking: String::new(),
                answer: held,
            },
        }
    }

    fn skip_line_ends(&mut self) {
        if self.after_tag {
            let text = self.held.trim_start_matches(['\n', '\r']);
            self.after_tag = text.is_empty();
            self.held = text.to_owned();
        }
    }
}

/// How many bytes at the end of `text` may be the beginning of the closing tag.
fn unfinished(text: &str) -> usize {
    (1..CLOSE.len())
        .rev()
        .find(|&length| text.ends_with(&CLOSE[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Split, Thinking};

    /// Splits `text` at once and character by character; both must agree.
    fn split(mut whole: Thinking, mut pieces: Thinking, text: &str) -> (String, String) {
        let add = |sum: &mut Split, more: Split| {
            sum.thinking += &more.thinking;
            sum.answer += &more.answer;
        };
        let mut at_once = whole.push(text);
        add(&mut at_once, whole.finish());
        let mut one_by_one = Split::default();
        for piece in text.split_inclusive(|_| true) {
            add(&mut one_by_one, pieces.push(piece));
        }
        add(&mut one_by_one, pieces.finish());
        assert_eq!(at_once, one_by_one);
        (at_once.thinking, at_once.answer)
    }

    fn after(prompt: &str, text: &str) -> (String, String) {
        split(Thinking::after(prompt), Thinking::after(prompt), text)
    }

    #[test]
    fn thinking_is_told_from_the_answer() {
        let check = |text: &str, thinking: &str, answer: &str| {
            assert_eq!(
                after("user\n", text),
                (thinking.into(), answer.into()),
                "{text:?}"
            );
        };
        check(
            "<think>\nHm </thin.\n</think>\n\nYes.\n",
            "Hm </thin.\n",
            "Yes.\n",
        );
        check("\n<think>\n\n</think>\n\n  Yes", "", "  Yes");
        check("Yes. <think>no</think>", "", "Yes. <think>no</think>");
        check("<thin", "", "<thin");
        check("\n\nYes", "", "\n\nYes");
        check("<think>cut </th", "cut </th", "");
        check("", "", "");
    }

    #[test]
    fn the_prompt_may_open_the_thinking() {
        assert_eq!(
            after("<think>\n", "\nHm</think>Yes"),
            ("Hm".into(), "Yes".into())
        );
    }

    #[test]
    fn off_changes_nothing() {
        let text = "<think>\na</think>\n\nb";
        assert_eq!(
            split(Thinking::off(), Thinking::off(), text),
            (String::new(), text.into())
        );
    }
}
