//! Numbers that have bounds: what is beyond them is a mistake, and is refused before anything is done.

use std::fmt::Display;
use std::str::FromStr;

use super::bench_values::Sizes;

/// More threads than a machine has are of no use.
const MOST_THREADS: usize = 1024;

/// No model has so many heads of keys.
const MOST_RANKS: usize = 64;

/// No context holds more.
const MOST_TOKENS: usize = u32::MAX as usize;

/// What is timed more often takes days.
const MOST_REPETITIONS: usize = 1_000_000;

/// Threads that compute.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    between(text, 1, MOST_THREADS)
}

/// A list of numbers of threads.
pub(super) fn lists_of_threads(text: &str) -> Result<Sizes, String> {
    all_between(text, 1, MOST_THREADS)
}

/// Processes that compute a model together.
pub(super) fn ranks(text: &str) -> Result<usize, String> {
    between(text, 2, MOST_RANKS)
}

/// Tokens, at least one.
pub(super) fn tokens(text: &str) -> Result<usize, String> {
    between(text, 1, MOST_TOKENS)
}

/// Times that something is measured.
pub(super) fn repetitions(text: &str) -> Result<usize, String> {
    between(text, 1, MOST_REPETITIONS)
}

/// A whole number of at least `least` and at most `most`.
pub(super) fn between(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = parsed(text)?;
    within(number, least, most)
}

/// A list of such numbers.
pub(super) fn all_between(text: &str, least: usize, most: usize) -> Result<Sizes, String> {
    let sizes: Sizes = text.parse()?;
    let checked = sizes.0.iter().map(|size| within(*size, least, most));
    checked.collect::<Result<Vec<_>, _>>().map(Sizes)
}

/// A finite number of at least 0.
pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    match parsed::<f64>(text)? {
        number if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("not a finite number of at least 0".to_owned()),
    }
}

/// A finite number above 0.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    match parsed::<f64>(text)? {
        number if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a finite number above 0".to_owned()),
    }
}

fn within(number: usize, least: usize, most: usize) -> Result<usize, String> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("{number} is not between {least} and {most}"))
}

fn parsed<Number: FromStr<Err: Display>>(text: &str) -> Result<Number, String> {
    text.parse().map_err(|error: Number::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{above_zero, between, not_negative};

    #[test]
    fn both_bounds_are_allowed_and_nothing_beyond() {
        assert_eq!(between("1", 1, 3), Ok(1));
        assert_eq!(between("3", 1, 3), Ok(3));
        for text in ["0", "4", "18446744073709551616", "-1", "x", ""] {
            assert!(between(text, 1, 3).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_that_nothing_is_above_or_below_are_none() {
        assert_eq!(not_negative("0"), Ok(0.0));
        assert_eq!(above_zero("0.5"), Ok(0.5));
        for text in ["nan", "inf", "-inf", "-1", "x"] {
            assert!(not_negative(text).is_err(), "{text}");
            assert!(above_zero(text).is_err(), "{text}");
        }
        assert!(above_zero("0").is_err());
    }
}
