//! `/cache` and `/metrics`: what the server and its runners hold, for people and for programs.

use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use mlxr::engine::figures::{KnownPrefix, LiveRequest};
use mlxr::tokenizer::{Special, Tokenizer};
use serde_json::json;

use super::asking::Server;
use super::dialect::json_response;
use super::meters::row;
use super::models::Residence;
use crate::wire::{Held, HeldModel, HeldPrefix, HeldRequest, LoadedModel};

/// How long a runner may take to tell, before what it told last is taken.
const PATIENCE: Duration = Duration::from_millis(200);

/// Characters of a prefix that are shown.
const SHOWN: usize = 200;

/// `/cache`: the models that are loaded, what they are doing, and the tree of prefixes that each knows. `with_text`
/// tells how the text of each prefix begins.
pub(super) async fn cache(server: &Server, with_text: bool) -> Response {
    let mut models = Vec::new();
    for residence in server.slots.residents() {
        models.push(match residence {
            Residence::Loading { name, time } => HeldModel::Loading {
                model: name,
                seconds: time.as_secs_f64(),
            },
            Residence::Loaded {
                served,
                leases,
                expires,
            } => {
                let figures = served.child.figures(PATIENCE).await;
                let facts = served.child.facts();
                let tokenizer = with_text.then_some(&served.read.tokenizer);
                HeldModel::Loaded(Box::new(LoadedModel {
                    model: served.name.clone(),
                    architecture: facts.architecture.clone(),
                    device: facts.device.clone(),
                    context: facts.context,
                    requests: leases,
                    expires_in_seconds: expires.map(|time| time.as_secs_f64()),
                    weights_bytes: facts.weights_bytes,
                    memory_bytes_limit: facts.memory_bytes,
                    state_bytes: figures.used,
                    state_bytes_limit: figures.room,
                    offloaded_bytes: figures.offloaded,
                    offloaded_bytes_limit: figures.offload_room,
                    waiting: figures.waiting,
                    live: figures.live.iter().map(request).collect(),
                    prefixes: figures
                        .prefixes
                        .iter()
                        .map(|known| prefix(known, tokenizer))
                        .collect(),
                }))
            }
        });
    }
    json_response(&json!(Held { models }))
}

fn request(request: &LiveRequest) -> HeldRequest {
    HeldRequest {
        prompt_tokens: request.prompt,
        cached_tokens: request.cached,
        evaluated_tokens: request.evaluated,
        produced_tokens: request.produced,
        limit: request.limit,
        seconds: request.age.as_secs_f64(),
    }
}

fn prefix(known: &KnownPrefix, tokenizer: Option<&Tokenizer>) -> HeldPrefix {
    HeldPrefix {
        parent: known.parent,
        start: known.start,
        end: known.start + known.tokens.len(),
        bytes: known.bytes,
        offloaded_bytes: known.offloaded_bytes,
        has_checkpoint: known.has_checkpoint,
        is_stored: known.is_stored,
        sequences: known.backing,
        unused_seconds: known.unused.as_secs_f64(),
        text: tokenizer.map(|tokenizer| {
            let shown = &known.tokens[..known.tokens.len().min(SHOWN)];
            let text = tokenizer.decode(shown, Special::Show);
            text.chars().take(SHOWN).collect()
        }),
    }
}

/// `/metrics`, as Prometheus reads them.
pub(super) async fn metrics(server: &Server) -> Response {
    let mut text = server.meters.text();
    for residence in server.slots.residents() {
        let Residence::Loaded { served, leases, .. } = residence else {
            continue;
        };
        let figures = served.child.figures(PATIENCE).await;
        let facts = served.child.facts();
        let rows = [
            ("mlxr_requests_open", leases),
            ("mlxr_requests_running", figures.live.len()),
            ("mlxr_requests_waiting", figures.waiting),
            ("mlxr_prefixes", figures.prefixes.len()),
            ("mlxr_weights_bytes", facts.weights_bytes),
            ("mlxr_memory_bytes_limit", facts.memory_bytes),
            ("mlxr_state_bytes", figures.used),
            ("mlxr_state_bytes_limit", figures.room),
            ("mlxr_offloaded_bytes", figures.offloaded),
        ];
        for (name, value) in rows {
            row(
                &mut text,
                format_args!("{name}{{model={:?}}} {value}", served.name),
            );
        }
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
