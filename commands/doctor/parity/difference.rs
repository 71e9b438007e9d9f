//! What two ways of computing say of the same tokens. Knows neither.

use mlxr::engine::request::{Logprobs, Token};
use mlxr::tokenizer::{Special, Tokenizer};
use serde::Serialize;

/// How many of the likeliest tokens are told of after each one.
pub(super) const WATCHED: usize = 64;

/// Of these, how many are compared: those that are less likely are hardly ever chosen.
const COMPARED: usize = 20;

/// A token that the reference finds so much less likely (natural logarithm) may be chosen by rounding: with int8
/// activations, log-probabilities of a model of 7 million parameters were off by 0.05 on average, 0.9 at most.
const NEAR: f32 = 1.0;

/// How far two ways of computing are apart.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Difference {
    /// Tokens that were compared.
    tokens: usize,
    /// Where they first choose another token.
    first: Option<First>,
    /// Of the log-probabilities of the likeliest tokens.
    pub(super) largest: f32,
    pub(super) mean: f32,
}

/// Where two ways first choose another token.
#[derive(Debug, Serialize, PartialEq)]
struct First {
    /// Tokens of the answer before it.
    index: usize,
    expected: Named,
    found: Named,
    /// How much less likely the reference finds what was found, at least.
    less_likely: f32,
}

#[derive(Debug, Serialize, PartialEq)]
struct Named {
    id: u32,
    text: String,
}

impl Difference {
    /// Of two answers along the same tokens.
    pub(super) fn new(expected: &[Token], found: &[Token], tokenizer: &Tokenizer) -> Self {
        Self::named(expected, found, |id| tokenizer.decode(&[id], Special::Show))
    }

    fn named(expected: &[Token], found: &[Token], text: impl Fn(u32) -> String) -> Self {
        let name = |id| Named { id, text: text(id) };
        let pairs = expected.iter().zip(found);
        let first = pairs
            .clone()
            .enumerate()
            .find_map(|(index, (expected, found))| {
                let known = expected.logprobs.as_ref()?;
                (expected.id != found.id).then(|| First {
                    index,
                    expected: name(expected.id),
                    found: name(found.id),
                    less_likely: known.chosen - at_most(known, found.id),
                })
            });
        let apart = pairs.clone().filter_map(|(expected, found)| {
            Some((expected.logprobs.as_ref()?, found.logprobs.as_ref()?))
        });
        let apart: Vec<f32> = apart
            .flat_map(|(expected, found)| {
                let likeliest = expected.top.iter().take(COMPARED);
                likeliest.map(|&(id, expected)| (expected - at_most(found, id)).abs())
            })
            .collect();
        Self {
            tokens: pairs.count(),
            first,
            largest: apart.iter().copied().fold(0.0, f32::max),
            mean: apart.iter().sum::<f32>() / apart.len().max(1) as f32,
        }
    }

    /// Whether the reference finds what differs nearly as likely.
    pub(super) fn is_near(&self) -> bool {
        let first = self.first.as_ref();
        first.is_none_or(|first| first.less_likely <= NEAR)
    }

    /// Where they first differ, in words.
    pub(super) fn first(&self) -> String {
        match &self.first {
            None => "none".to_owned(),
            Some(First {
                index,
                expected,
                found,
                less_likely,
            }) => format!(
                "token {index}: {:?} for {:?}, {less_likely:.3} less likely",
                found.text, expected.text
            ),
        }
    }
}

/// The log-probability of a token, or that of the least likely one that is told of.
fn at_most(known: &Logprobs, id: u32) -> f32 {
    let told = known.top.iter().find(|(told, _)| *told == id);
    let least = told.or(known.top.last());
    least.map_or(known.chosen, |(_, logprob)| *logprob)
}

#[cfg(test)]
mod tests {
    use mlxr::engine::request::{Logprobs, Token};

    use super::{Difference, First, Named};

    fn token(id: u32, top: &[(u32, f32)]) -> Token {
        Token {
            id,
            logprobs: Some(Logprobs {
                chosen: top[0].1,
                top: top.to_vec(),
            }),
        }
    }

    fn difference(expected: &[Token], found: &[Token]) -> Difference {
        Difference::named(expected, found, |id| format!("t{id}"))
    }

    #[test]
    fn the_same_numbers_do_not_differ() {
        let answer = [token(1, &[(1, -0.5), (2, -1.0)])];
        let found = difference(&answer, &answer);
        assert_eq!((found.largest, found.mean, &found.first), (0.0, 0.0, &None));
        assert!(found.is_near());
        assert_eq!(found.first(), "none");
    }

    #[test]
    fn the_first_other_token_is_told_with_how_likely_it_was() {
        let expected = [
            token(1, &[(1, -0.5), (2, -1.0)]),
            token(3, &[(3, -0.5), (4, -0.75)]),
            token(5, &[(5, -0.5), (6, -2.5)]),
        ];
        let found = [
            token(1, &[(1, -0.5), (2, -1.5)]),
            token(4, &[(4, -0.5), (3, -0.5)]),
            token(6, &[(6, -0.5), (5, -0.5)]),
        ];
        let near = difference(&expected, &found);
        let first = near.first.as_ref().unwrap();
        let name = |id: u32| Named {
            id,
            text: format!("t{id}"),
        };
        let known = First {
            index: 1,
            expected: name(3),
            found: name(4),
            less_likely: 0.25,
        };
        assert_eq!(first, &known);
        assert_eq!((near.tokens, near.largest), (3, 2.0));
        assert!(near.is_near());
        assert_eq!(
            near.first(),
            "token 1: \"t4\" for \"t3\", 0.250 less likely"
        );
        let far = difference(&expected[2..], &found[2..]);
        assert!(!far.is_near());
    }

    #[test]
    fn a_token_that_is_not_told_of_counts_as_the_least_likely_that_is() {
        let expected = [token(1, &[(1, -0.5), (2, -1.0)])];
        let found = [token(7, &[(7, -0.25), (1, -4.0)])];
        let found = difference(&expected, &found);
        let less_likely = found.first.map(|first| first.less_likely);
        assert_eq!((less_likely, found.mean), (Some(0.5), 3.25));
    }
}
