//! The small languages that arguments of `bench` are written in.

use std::str::FromStr;

use clap::ValueEnum;
use mlxr::config::PackingConfig;

/// No list of sizes needs to be longer.
const LONGEST_LIST: usize = 10_000;

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Md,
    Csv,
    Json,
    Jsonl,
    Sql,
}

/// How made-up matrices are packed, if they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quant(pub(crate) Option<PackingConfig>);

impl FromStr for Quant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" | "bf16" => Ok(Self(None)),
            text => text.parse().map(|packing| Self(Some(packing))),
        }
    }
}

/// Numbers of tokens or sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes(pub(crate) Vec<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sizes = Vec::new();
        for part in text.split(',') {
            range(part, &mut sizes)?;
        }
        Ok(Self(sizes))
    }
}

/// Adds `8`, `8-64`, `8-64+8` or `8-64*2` to `sizes`.
fn range(text: &str, sizes: &mut Vec<usize>) -> Result<(), String> {
    let number = |digits: &str| {
        let number = digits.trim().parse::<u32>();
        number
            .map(|number| number as usize)
            .map_err(|error| format!("`{digits}`: {error}"))
    };
    let Some((first, rest)) = text.split_once('-') else {
        sizes.push(number(text)?);
        return Ok(());
    };
    let first = number(first)?;
    let (last, factor, step) = match (rest.split_once('*'), rest.split_once('+')) {
        (Some((last, factor)), _) => (number(last)?, number(factor)?, 0),
        (None, Some((last, step))) => (number(last)?, 1, number(step)?),
        (None, None) => (number(rest)?, 1, 1),
    };
    if last < first {
        return Err(format!("`{text}` ends before it begins"));
    }
    let mut size = first;
    while size <= last {
        if sizes.len() == LONGEST_LIST {
            return Err(format!("more than {LONGEST_LIST} sizes"));
        }
        sizes.push(size);
        let next = size.saturating_mul(factor).saturating_add(step);
        if next <= size {
            return Err(format!("`{text}` never ends"));
        }
        size = next;
    }
    Ok(())
}

/// A prompt and what is generated after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptAndGenerate {
    pub(crate) prompt: usize,
    pub(crate) generate: usize,
}

impl FromStr for PromptAndGenerate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Sizes>()?.0[..] {
            [prompt, generate] if prompt > 0 && generate > 0 => Ok(Self { prompt, generate }),
            _ => Err("not of the form P,N with numbers above 0".to_owned()),
        }
    }
}

/// How far below its baseline a test may fall.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// `pp`, `tg`, `pg`, or the name of one test.
    pub(crate) tests: String,
    /// In per cent, above 0.
    pub(crate) percent: f64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('<').and_then(|(tests, fall)| {
            let percent = fall.trim().strip_prefix('-')?.strip_suffix('%')?;
            Some((tests.trim(), percent.parse::<f64>().ok()?))
        });
        match parts {
            Some((tests, percent)) if !tests.is_empty() && (0.0..=100.0).contains(&percent) => {
                Ok(Self {
                    tests: tests.to_owned(),
                    percent,
                })
            }
            _ => Err("not of the form TEST<-PERCENT%, as in tg<-3%".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, PromptAndGenerate, Quant, Sizes};

    fn sizes(text: &str) -> Result<Vec<usize>, String> {
        text.parse().map(|Sizes(sizes)| sizes)
    }

    #[test]
    fn lists_and_ranges_are_llama_bench_s() {
        assert_eq!(sizes("16,32").unwrap(), [16, 32]);
        assert_eq!(sizes("8-64*2").unwrap(), [8, 16, 32, 64]);
        assert_eq!(sizes("8-32+8").unwrap(), [8, 16, 24, 32]);
        assert_eq!(sizes("1-3,0").unwrap(), [1, 2, 3, 0]);
        assert_eq!(sizes("5-8*2").unwrap(), [5]);
    }

    #[test]
    fn lists_that_mean_nothing_are_refused() {
        for (text, word) in [
            ("", "empty"),
            ("8,", "empty"),
            ("x", "invalid digit"),
            ("-1", "empty"),
            ("8-4", "ends before it begins"),
            ("8-64*1", "never ends"),
            ("8-64+0", "never ends"),
            ("0-64*2", "never ends"),
            ("0-4000000000", "more than 10000"),
            ("99999999999", "too large"),
        ] {
            let refusal = sizes(text).unwrap_err();
            assert!(refusal.contains(word), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_prompt_and_what_follows_are_two_numbers() {
        let pair: PromptAndGenerate = "512,128".parse().unwrap();
        assert_eq!((pair.prompt, pair.generate), (512, 128));
        for text in ["512", "1,2,3", "0,4", "4,0", "a,b"] {
            assert!(text.parse::<PromptAndGenerate>().is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_falls_in_per_cent() {
        let limit: Limit = "tg128 @ d2048<-2.5%".parse().unwrap();
        assert_eq!(
            (limit.tests.as_str(), limit.percent),
            ("tg128 @ d2048", 2.5)
        );
        for text in ["tg", "tg<3%", "tg<-3", "<-3%", "tg>3%", "tg<-x%", "tg<--3%"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn made_up_matrices_are_packed_or_not() {
        assert_eq!("none".parse(), Ok(Quant(None)));
        assert_eq!("bf16".parse(), Ok(Quant(None)));
        for text in ["affine4g64", "affine8g32", "mxfp4", "mxfp8", "nvfp4"] {
            let Quant(packing) = text.parse().unwrap();
            assert_eq!(packing.unwrap().to_string(), text);
        }
        for text in ["affine7g64", "affine4g16", "q4_0", "affine4", "mxfp4g32"] {
            assert!(text.parse::<Quant>().is_err(), "{text}");
        }
    }
}
