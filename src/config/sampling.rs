//! How the model's makers sample, as `generation_config.json` says it.

use serde_json::Value;

use super::Config;
use crate::error::Result;
use crate::files::ModelFiles;
use crate::sample::Sampling;

/// How the model's makers sample: `generation_config.json` over [`Sampling::default`].
///
/// # Errors
/// [`crate::Error::Config`] where the file is no JSON object or a value means nothing.
pub fn default_sampling(files: &ModelFiles) -> Result<Sampling> {
    let mut sampling = Sampling::default();
    let name = "generation_config.json";
    let Some(bytes) = files.read(name)? else {
        return Ok(sampling);
    };
    let config = Config::parse(files.path(name), &bytes)?;
    sampling.temperature = config.number_or("temperature", sampling.temperature)?;
    sampling.top_p = config.number_or("top_p", sampling.top_p)?;
    sampling.min_p = config.number_or("min_p", sampling.min_p)?;
    sampling.repeat_penalty = config.number_or("repetition_penalty", sampling.repeat_penalty)?;
    // Some write -1 for all tokens.
    let is_all = config.fields.get("top_k").and_then(Value::as_i64) == Some(-1);
    let top_k = if is_all {
        Some(0)
    } else {
        config.optional_count("top_k")?
    };
    sampling.top_k = top_k.unwrap_or(sampling.top_k);
    if !config.flag_or("do_sample", true)? {
        sampling.temperature = 0.0;
    }
    sampling
        .check()
        .map_err(|error| config.problem(error.to_string()))?;
    Ok(sampling)
}
