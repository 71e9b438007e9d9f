//! One answer on its way along a constraint: which tokens may come next. Knows nothing of who chooses among them.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::sample::Mask;

/// Tokens of the gap between the text that a constraint waits for and the answer.
const GAP_TOKENS: usize = 2;

/// Characters of an explanation.
const LONGEST_SENTENCE: usize = 200;

/// Says which tokens may come next, as long as it is told which ones came.
pub struct Guide {
    vocabulary: Arc<Vocabulary>,
    matcher: Matcher,
    state: State,
    mask: Arc<Mask>,
}

enum State {
    /// Anything may come, up to a text.
    Waiting {
        text: Vec<u8>,
        /// The last bytes, in which it may have begun.
        tail: Vec<u8>,
        /// What the answer may begin with.
        first: Arc<Mask>,
    },
    /// So many tokens of the gap may come, or the answer begins.
    Gap { left: usize, first: Arc<Mask> },
    /// The answer has begun.
    Bound,
}

impl Guide {
    /// Along a grammar. Where `after` is a text, the grammar begins once the answer holds it.
    pub(super) fn new(
        vocabulary: Arc<Vocabulary>,
        grammar: TopLevelGrammar,
        after: Option<String>,
    ) -> Result<Self, String> {
        let mut parser = vocabulary.parser(grammar).map_err(sentence)?;
        // What is told as a warning is a part that would not be followed.
        if let Some(warning) = parser.grammar_warnings().into_iter().next() {
            return Err(sentence(warning));
        }
        let mut matcher = Matcher::new(Ok(parser));
        let Next::Tokens(first) = next(&vocabulary, &mut matcher)? else {
            return Err("it allows no text".to_owned());
        };
        let (mask, state) = match after {
            None => (first, State::Bound),
            Some(text) => {
                let (text, tail) = (text.into_bytes(), Vec::new());
                let state = State::Waiting { text, tail, first };
                (Arc::clone(&vocabulary.free), state)
            }
        };
        Ok(Self {
            vocabulary,
            matcher,
            state,
            mask,
        })
    }

    /// The tokens that may come next.
    pub fn mask(&self) -> Arc<Mask> {
        Arc::clone(&self.mask)
    }

    /// Takes the next token in, one of those that may come and none that ends an answer. `Break` says that the
    /// answer is complete and nothing may follow.
    ///
    /// # Errors
    /// [`Error::Request`] where what may follow cannot be told with reasonable effort, or cannot be spelled.
    pub fn push(&mut self, id: u32) -> Result<ControlFlow<()>> {
        self.take(id).map_err(|problem| Error::Request {
            field: "constraint",
            problem,
        })
    }

    fn take(&mut self, id: u32) -> Result<ControlFlow<()>, String> {
        match &mut self.state {
            State::Waiting { text, tail, first } => {
                tail.extend_from_slice(self.vocabulary.bytes(id));
                let found = tail.windows(text.len()).position(|part| part == text);
                if let Some(at) = found {
                    let rest = tail.split_off(at + text.len());
                    let first = Arc::clone(first);
                    return self.begin(first, &rest);
                }
                let kept = tail.len().saturating_sub(text.len() - 1);
                tail.drain(..kept);
                Ok(ControlFlow::Continue(()))
            }
            State::Gap { left, first } if !first.contains(id) => {
                *left -= 1;
                if *left == 0 {
                    self.mask = Arc::clone(first);
                    self.state = State::Bound;
                }
                Ok(ControlFlow::Continue(()))
            }
            State::Gap { .. } | State::Bound => {
                self.state = State::Bound;
                self.advance(&[id])
            }
        }
    }

    /// The text that was waited for has come, and `rest` after it in the same token.
    fn begin(&mut self, first: Arc<Mask>, rest: &[u8]) -> Result<ControlFlow<()>, String> {
        let rest = self.vocabulary.tokens(rest.trim_ascii_start());
        if !rest.is_empty() {
            self.state = State::Bound;
            let fit = self.matcher.validate_tokens(&rest);
            if fit.map_err(sentence)? < rest.len() {
                return Err("the answer begins with what it does not allow".to_owned());
            }
            return self.advance(&rest);
        }
        let mut mask = (*first).clone();
        for &id in &self.vocabulary.gap {
            mask.insert(id);
        }
        self.mask = Arc::new(mask);
        let left = GAP_TOKENS;
        self.state = State::Gap { left, first };
        Ok(ControlFlow::Continue(()))
    }

    /// Takes tokens of the answer itself in.
    fn advance(&mut self, tokens: &[u32]) -> Result<ControlFlow<()>, String> {
        let taken = self.matcher.consume_tokens(tokens);
        taken.map_err(sentence)?;
        match next(&self.vocabulary, &mut self.matcher)? {
            Next::Tokens(mask) => {
                self.mask = mask;
                Ok(ControlFlow::Continue(()))
            }
            Next::Nothing => Ok(ControlFlow::Break(())),
        }
    }
}

/// What may follow.
enum Next {
    Tokens(Arc<Mask>),
    Nothing,
}

fn next(vocabulary: &Vocabulary, matcher: &mut Matcher) -> Result<Next, String> {
    if matcher.is_stopped() && matcher.stop_reason().is_ok() {
        return Ok(Next::Nothing);
    }
    // Without a token that ends an answer, a complete one is told by nothing that may follow.
    let is_complete = matcher.is_accepting();
    match matcher.compute_mask() {
        Ok(set) => Ok(Next::Tokens(Arc::new(vocabulary.mask(&set)))),
        Err(_) if is_complete.is_ok_and(|is_complete| is_complete) => Ok(Next::Nothing),
        Err(error) => Err(sentence(error)),
    }
}

/// What `llguidance` says, in one line and without what only its authors know.
fn sentence(said: impl Display) -> String {
    let said = format!("{said}");
    let lines = || said.lines().map(str::trim);
    // A regular expression's error comes after the expression.
    let line = lines().find_map(|line| line.strip_prefix("error: "));
    let line = line.or_else(|| lines().find(|line| !line.is_empty()));
    let line = line.unwrap_or("for an unknown reason");
    if line.contains("NoExtensionBias") {
        return "no text fits it".to_owned();
    }
    if line.starts_with("oneOf constraints are not supported") {
        return "`oneOf` is supported only where its options exclude each other".to_owned();
    }
    let line = line.replace(" without 'referencing' feature", "");
    let line = line.strip_prefix("Parser Error: ").unwrap_or(&line);
    line.chars().take(LONGEST_SENTENCE).collect()
}
