//! Which address leads where, and what holds for all of them: limits, forms of failure.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderValue, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http_body_util::LengthLimitError;
use serde_json::json;
use tokio::time::timeout;

use super::admission::{self, LEFT_OUT};
use super::anthropic;
use super::asking::{Asking, Server};
use super::dialect::{Dialect, json_response};
use super::fields::Fields;
use super::models::Residence;
use super::{ollama, openai, page, state, tokens};
use crate::wire::{Failure, Fault};

/// How long a client may take for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Bytes of the names of fields that were left out, in a header.
const MOST_NAMED: usize = 1024;

type State_ = State<Arc<Server>>;

/// All addresses.
pub(super) fn all(server: &Arc<Server>) -> Router {
    let mut router = Router::new();
    for start in ["", "/v1"] {
        router = router
            .route(
                &format!("{start}/chat/completions"),
                asked(openai::chat::answer),
            )
            .route(
                &format!("{start}/completions"),
                asked(openai::completions::answer),
            )
            .route(
                &format!("{start}/responses"),
                asked(openai::responses::answer),
            )
            .route(&format!("{start}/messages"), asked(anthropic::answer))
            .route(
                &format!("{start}/messages/count_tokens"),
                asked(anthropic::count),
            )
            .route(&format!("{start}/tokenize"), asked(tokens::tokenize))
            .route(&format!("{start}/detokenize"), asked(tokens::detokenize))
            .route(
                &format!("{start}/embeddings"),
                asked(openai::embeddings::answer),
            )
            .route(&format!("{start}/models"), get(models))
            .route(&format!("{start}/models/{{*name}}"), get(model))
            .route(&format!("{start}/health"), get(health));
    }
    let router = page::add(router)
        .route("/cache", get(cache))
        .route("/metrics", get(metrics))
        .route("/apply-template", asked(tokens::apply_template))
        .route("/api/chat", asked(ollama::chat))
        .route("/api/generate", asked(ollama::generate))
        .route("/api/show", asked(ollama::show))
        .route("/api/embed", asked(ollama::embed))
        .route("/api/embeddings", asked(ollama::embed_one))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(processes))
        .route("/api/version", get(async || ollama::version()))
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(server), admission::guard))
        .with_state(Arc::clone(server));
    match admission::other_origins(&server.origins) {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

/// An address to which a JSON object is posted.
fn asked<Answer, Answered>(answer: Answer) -> MethodRouter<Arc<Server>>
where
    Answer: Fn(Asking, Fields) -> Answered + Clone + Send + Sync + 'static,
    Answered: Future<Output = Result<Response, Failure>> + Send + 'static,
{
    post(|State(server): State_, request: Request| async move {
        let dialect = Dialect::of(request.uri().path());
        let asking = Asking::new(server);
        let answered = async {
            let body = body(request, asking.server.body_bytes).await?;
            answer(asking.clone(), Fields::parse(&body)?).await
        };
        let mut response = match answered.await {
            Ok(response) => response,
            Err(failure) => {
                asking.server.meters.failed();
                asking
                    .server
                    .printer
                    .detail(format_args!("refused: {}", failure.message));
                dialect.refuse(&failure)
            }
        };
        let left_out = asking.left_out();
        if !left_out.is_empty()
            && let Ok(named) = HeaderValue::from_str(&named(&left_out))
        {
            response.headers_mut().insert(LEFT_OUT, named);
        }
        response
    })
}

/// Names of fields as a header may bear them: of many the first ones, and in ASCII.
fn named(fields: &[String]) -> String {
    let mut text = String::new();
    for (index, name) in fields.iter().enumerate() {
        let name = name.escape_default().to_string();
        if text.len() + name.len() > MOST_NAMED {
            return format!("{text}, and {} more", fields.len() - index);
        }
        text = format!("{text}{}{name}", if index > 0 { ", " } else { "" });
    }
    text
}

/// The body of a request, within its bounds.
async fn body(request: Request, bytes: usize) -> Result<Bytes, Failure> {
    let too_large = || {
        Failure::new(
            Fault::TooLarge,
            format!("the body has more than {bytes} bytes"),
        )
    };
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes) {
        return Err(too_large());
    }
    match timeout(BODY_TIME, to_bytes(request.into_body(), bytes)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error))
            if error
                .source()
                .is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) =>
        {
            Err(too_large())
        }
        Ok(Err(error)) => Err(Failure::new(
            Fault::Invalid,
            format!("the body broke off: {error}"),
        )),
        Err(_) => Err(Failure::new(
            Fault::TooSlow,
            "the body did not come in time",
        )),
    }
}

async fn models(State(server): State_) -> Response {
    let listed = openai::models::list(server.slots.names());
    listed.unwrap_or_else(|failure| Dialect::OpenAi.refuse(&failure))
}

async fn model(State(server): State_, Path(name): Path<String>) -> Response {
    let found = openai::models::one(server.slots.names(), &name);
    found.unwrap_or_else(|failure| Dialect::OpenAi.refuse(&failure))
}

/// Whether requests would be answered at once: not while the only model is being loaded, nor when none is loaded and
/// the last one that was asked for could not be.
async fn health(State(server): State_) -> Response {
    let residents = server.slots.residents();
    if residents.is_empty()
        && let Some(failure) = server.slots.failure()
    {
        let failure = Failure::new(Fault::Gone, failure.message);
        return Dialect::OpenAi.refuse(&failure);
    }
    let is_loading = |residence: &Residence| matches!(residence, Residence::Loading { .. });
    if !residents.is_empty() && residents.iter().all(is_loading) {
        let failure = Failure::new(Fault::Gone, "the model is being loaded");
        return Dialect::OpenAi.refuse(&failure);
    }
    json_response(&json!({"status": "ok"}))
}

async fn tags(State(server): State_) -> Response {
    ollama::tags(&server).unwrap_or_else(|failure| Dialect::Ollama.refuse(&failure))
}

async fn processes(State(server): State_) -> Response {
    ollama::processes(&server)
}

async fn cache(State(server): State_, uri: Uri) -> Response {
    let with_text = uri
        .query()
        .is_some_and(|query| query.split('&').any(|part| part == "text=true"));
    state::cache(&server, with_text).await
}

async fn metrics(State(server): State_) -> Response {
    state::metrics(&server).await
}

async fn nothing(request: Request<Body>) -> Response {
    let path = request.uri().path();
    let failure = Failure::new(Fault::NotFound, format!("there is nothing at {path}"));
    Dialect::of(path).refuse(&failure)
}

async fn no_method(request: Request<Body>) -> Response {
    let path = request.uri().path();
    let problem = format!("{path} does not know the method {}", request.method());
    Dialect::of(path).refuse(&Failure::new(Fault::Method, problem))
}
