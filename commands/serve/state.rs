//! `/cache` and `/metrics`: what the server and its runners hold, for people and for programs.

use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use mlxr::engine::figures::{Figures, KnownPrefix};
use mlxr::tokenizer::{Special, Tokenizer};
use serde_json::{Value, json};

use super::asking::Server;
use super::dialect::json_response;
use super::meters::row;
use super::models::Residence;

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
            Residence::Loading { name, time } => json!({
                "model": name,
                "state": "loading",
                "seconds": time.as_secs_f64(),
            }),
            Residence::Loaded {
                served,
                leases,
                expires,
            } => {
                let figures = served.child.figures(PATIENCE).await;
                let facts = served.child.facts();
                let tokenizer = with_text.then_some(&*served.tokenizer);
                json!({
                    "model": served.name,
                    "state": "loaded",
                    "architecture": facts.architecture,
                    "device": facts.device,
                    "context": facts.context,
                    "requests": leases,
                    "expires_in_seconds": expires.map(|time| time.as_secs_f64()),
                    "weights_bytes": facts.weights_bytes,
                    "state_bytes": figures.used,
                    "state_bytes_limit": figures.room,
                    "offloaded_bytes": figures.offloaded,
                    "offloaded_bytes_limit": figures.offload_room,
                    "waiting": figures.waiting,
                    "live": live(&figures),
                    "prefixes": prefixes(&figures.prefixes, tokenizer),
                })
            }
        });
    }
    json_response(&json!({"models": models}))
}

fn live(figures: &Figures) -> Value {
    let live = figures.live.iter().map(|request| {
        json!({
            "prompt_tokens": request.prompt,
            "cached_tokens": request.cached,
            "evaluated_tokens": request.evaluated,
            "produced_tokens": request.produced,
            "limit": request.limit,
            "seconds": request.age.as_secs_f64(),
        })
    });
    live.collect()
}

fn prefixes(known: &[KnownPrefix], tokenizer: Option<&Tokenizer>) -> Value {
    let told = known.iter().map(|prefix| {
        let mut told = json!({
            "parent": prefix.parent,
            "start": prefix.start,
            "end": prefix.start + prefix.tokens.len(),
            "bytes": prefix.bytes,
            "offloaded_bytes": prefix.offloaded_bytes,
            "has_checkpoint": prefix.has_checkpoint,
            "is_stored": prefix.is_stored,
            "sequences": prefix.backing,
            "unused_seconds": prefix.unused.as_secs_f64(),
        });
        if let Some(tokenizer) = tokenizer {
            let shown = &prefix.tokens[..prefix.tokens.len().min(SHOWN)];
            let text = tokenizer.decode(shown, Special::Show);
            told["text"] = text.chars().take(SHOWN).collect::<String>().into();
        }
        told
    });
    told.collect()
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
