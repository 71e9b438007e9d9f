//! `/api/embed` and its older form: texts as lists of numbers.

use std::time::Instant;

use axum::response::Response;
use serde_json::{Value, json};

use super::{Head, asked};
use crate::serve::asking::Asking;
use crate::serve::dialect::json_response;
use crate::serve::embedding::Texts;
use crate::serve::fields::Fields;
use crate::wire::Failure;

/// Embeds texts.
///
/// # Errors
/// Where there are none, or the model does not do that.
pub(in crate::serve) async fn embed(asking: Asking, fields: Fields) -> Result<Response, Failure> {
    answer(
        &asking,
        fields,
        "input",
        |name, vectors, tokens, [load, all]| {
            json!({
                "model": name,
                "embeddings": vectors,
                "total_duration": all,
                "load_duration": load,
                "prompt_eval_count": tokens,
            })
        },
    )
    .await
}

/// Embeds one text, as older clients ask for it.
///
/// # Errors
/// As [`embed`].
pub(in crate::serve) async fn embed_one(
    asking: Asking,
    fields: Fields,
) -> Result<Response, Failure> {
    answer(
        &asking,
        fields,
        "prompt",
        |_, vectors, _, _| json!({"embedding": vectors.first()}),
    )
    .await
}

async fn answer(
    asking: &Asking,
    mut fields: Fields,
    texts: &str,
    write: impl FnOnce(&str, &[Vec<f32>], usize, [u64; 2]) -> Value,
) -> Result<Response, Failure> {
    let begin = Instant::now();
    let head = Head::read(&mut fields)?;
    let is_cut = fields.take("truncate")?.unwrap_or(true);
    let mut texts = Texts::read(&mut fields, texts, is_cut)?;
    // Nothing is sampled, so the others change nothing.
    texts.context = asked::options(&mut fields)?.context;
    asking.leave_out(fields)?;
    let lease = asking.lease(head.model.as_deref()).await?;
    let load = begin.elapsed().as_nanos() as u64;
    let name = lease.served().name.clone();
    head.keep(&asking.server.slots, &name);
    let embeddings = texts.embed(asking, lease).await?;
    let times = [load, begin.elapsed().as_nanos() as u64];
    let written = write(&name, &embeddings.vectors, embeddings.tokens, times);
    Ok(json_response(&written))
}
