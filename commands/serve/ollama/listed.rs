//! What Ollama's clients are told of models.

use std::time::{Duration, SystemTime};

use axum::response::Response;
use jiff::Timestamp;
use mlxr::config::{Config, EmbeddingConfig};
use mlxr::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::serve::asking::{Asking, Server};
use crate::serve::dialect::json_response;
use crate::serve::fields::Fields;
use crate::serve::models::{Known, Residence, blocking};
use crate::wire::Failure;

/// The version of Ollama whose interface this is: clients refuse to talk to old ones.
const OLLAMA: &str = "0.12.0";

/// A model that stays for ever goes then, for clients that want a date: a hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `/api/version`.
pub(in crate::serve) fn version() -> Response {
    json_response(&json!({"version": OLLAMA, "mlxr": env!("CARGO_PKG_VERSION")}))
}

/// `/api/tags`: which models there are.
///
/// # Errors
/// Where they cannot be listed.
pub(in crate::serve) fn tags(server: &Server) -> Result<Response, Failure> {
    let models = server.slots.names().list()?;
    let models: Value = models.iter().map(tag).collect();
    Ok(json_response(&json!({"models": models})))
}

fn tag(known: &Known) -> Value {
    let modified = known.modified.unwrap_or(SystemTime::UNIX_EPOCH);
    json!({
        "name": known.name,
        "model": known.name,
        "modified_at": date(modified),
        "size": known.bytes,
        "digest": "",
        "details": details(None, None, None),
    })
}

/// `/api/ps`: which models are loaded.
pub(in crate::serve) fn processes(server: &Server) -> Response {
    let residents = server.slots.residents();
    let models: Value = residents.iter().filter_map(process).collect();
    json_response(&json!({"models": models}))
}

fn process(residence: &Residence) -> Option<Value> {
    let Residence::Loaded {
        served, expires, ..
    } = residence
    else {
        return None;
    };
    let facts = served.child.facts();
    let on_device = if facts.device == "cpu" {
        0
    } else {
        facts.weights_bytes
    };
    let expires = SystemTime::now().checked_add(expires.unwrap_or(FOR_EVER).min(FOR_EVER));
    Some(json!({
        "name": served.name,
        "model": served.name,
        "size": facts.weights_bytes,
        "size_vram": on_device,
        "digest": "",
        "context_length": facts.context,
        "expires_at": expires.map(date),
        "details": details(
            Some(&facts.architecture),
            Some(facts.parameters),
            Some(&facts.quantization),
        ),
    }))
}

/// `/api/show`: what is known of a model.
///
/// # Errors
/// Where there is none of that name, or its files cannot be read.
pub(in crate::serve) async fn show(
    asking: Asking,
    mut fields: Fields,
) -> Result<Response, Failure> {
    let name: Option<String> = fields.take("model")?;
    let name = fields.take("name")?.or(name);
    fields.pass_over(&["verbose"]);
    asking.leave_out(fields)?;
    let known = asking.server.slots.names().find(name.as_deref())?;
    let shown = blocking(move || {
        let files = known.files()?;
        let read = Config::read(&files).and_then(|config| {
            let tokenizer = Tokenizer::load(&files)?;
            Ok((config, tokenizer))
        });
        let (config, tokenizer) = read.map_err(|error| Failure::of_server(&error))?;
        let embeds = matches!(EmbeddingConfig::read(&files), Ok(Some(_)));
        Ok::<_, Failure>(shown(&known, &config, &tokenizer, embeds))
    });
    Ok(json_response(&shown.await??))
}

fn shown(known: &Known, config: &Config, tokenizer: &Tokenizer, embeds: bool) -> Value {
    let architecture = config.architecture().unwrap_or_default();
    let context = config.optional_size("max_position_embeddings");
    let template = tokenizer
        .chat_template()
        .map_or("", |template| template.source());
    let mut capabilities = vec!["completion"];
    if template.contains("tools") {
        capabilities.push("tools");
    }
    if template.contains("think") {
        capabilities.push("thinking");
    }
    if embeds {
        capabilities.push("embedding");
    }
    json!({
        "modelfile": "",
        "parameters": "",
        "template": template,
        "details": details(Some(architecture), None, None),
        "model_info": {
            "general.architecture": architecture,
            format!("{architecture}.context_length"): context.ok().flatten(),
        },
        "capabilities": capabilities,
        "modified_at": known.modified.map(date),
    })
}

/// What is said of a model wherever one is.
fn details(
    architecture: Option<&str>,
    parameters: Option<usize>,
    quantization: Option<&str>,
) -> Value {
    let architecture = architecture.unwrap_or_default();
    json!({
        "parent_model": "",
        "format": "safetensors",
        "family": architecture,
        "families": [architecture],
        "parameter_size": parameters.map_or_else(String::new, billions),
        "quantization_level": quantization.unwrap_or_default(),
    })
}

fn billions(parameters: usize) -> String {
    format!("{:.1}B", parameters as f64 / 1e9)
}

fn date(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or_default().to_string()
}
