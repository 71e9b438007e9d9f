//! `/v1/embeddings`: texts as lists of numbers.

use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::serve::asking::Asking;
use crate::serve::dialect::json_response;
use crate::serve::embedding::Texts;
use crate::serve::fields::Fields;
use crate::wire::Failure;

/// Embeds texts.
///
/// # Errors
/// Where there are none, or the model does not do that.
pub(in crate::serve) async fn answer(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let model: Option<String> = fields.take("model")?;
    let texts = Texts::read(&mut fields, "input", false)?;
    let format: Option<String> = fields.take("encoding_format")?;
    let write = match format.as_deref() {
        None | Some("float") => numbers,
        Some("base64") => base64,
        Some(other) => {
            let problem = format!("`{other}` is neither `float` nor `base64`");
            return Err(Failure::field("encoding_format", problem));
        }
    };
    fields.pass_over(&["user"]);
    asking.leave_out(fields)?;
    let lease = asking.lease(model.as_deref()).await?;
    let name = lease.served().name.clone();
    let embeddings = texts.embed(&asking, lease).await?;
    let data = embeddings.vectors.iter().enumerate();
    let data = data.map(|(index, vector)| {
        json!({"object": "embedding", "index": index, "embedding": write(vector)})
    });
    let tokens = embeddings.tokens;
    Ok(json_response(&json!({
        "object": "list",
        "data": data.collect::<Value>(),
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

fn numbers(vector: &[f32]) -> Value {
    vector.into()
}

/// Their bytes, the lowest first.
fn base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    BASE64_STANDARD.encode(bytes).into()
}
