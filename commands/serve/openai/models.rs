//! `/v1/models`: which models there are.

use std::time::UNIX_EPOCH;

use axum::response::Response;
use serde_json::{Value, json};

use crate::serve::dialect::json_response;
use crate::serve::models::{Known, Names};
use crate::wire::Failure;

/// All models.
///
/// # Errors
/// Where they cannot be listed.
pub(in crate::serve) fn list(names: &Names) -> Result<Response, Failure> {
    let models = names.list()?;
    let data: Value = models.iter().map(model).collect();
    Ok(json_response(&json!({"object": "list", "data": data})))
}

/// One model.
///
/// # Errors
/// Where there is none of that name.
pub(in crate::serve) fn one(names: &Names, name: &str) -> Result<Response, Failure> {
    Ok(json_response(&model(&names.find(Some(name))?)))
}

fn model(known: &Known) -> Value {
    let since = known
        .modified
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    json!({
        "id": known.name,
        "object": "model",
        "created": since.map_or(0, |time| time.as_secs()),
        "owned_by": "mlxr",
    })
}
