//! Prompts that have a text on either side, for models that were taught to fill the middle.

use mlxr::tokenizer::{Bos, Tokenizer};

use crate::wire::Failure;

/// What models call the text before, the text after, and what is between.
const TAGS: [[&str; 3]; 4] = [
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
    ["[PREFIX]", "[SUFFIX]", "[MIDDLE]"],
];

/// The prompt that asks for what is between two texts.
///
/// # Errors
/// Where the model's vocabulary has no tokens for that.
pub(super) fn prompt(tokenizer: &Tokenizer, before: &str, after: &str) -> Result<String, Failure> {
    let is_token = |tag: &&str| {
        let ids = tokenizer.encode(tag, Bos::Never);
        ids.is_ok_and(|ids| ids.len() == 1)
    };
    let known = TAGS.iter().find(|tags| tags.iter().all(is_token));
    let Some([prefix, suffix, middle]) = known else {
        return Err(Failure::field(
            "suffix",
            "the model was not taught to fill the middle: its vocabulary has no tokens for it",
        ));
    };
    Ok(format!("{prefix}{before}{suffix}{after}{middle}"))
}
