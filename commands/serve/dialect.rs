//! The dialects that clients speak, and how each says that something went wrong.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::wire::{Failure, Fault};

/// Seconds after which a client that came at a busy time may come again.
const RETRY_SECONDS: u64 = 1;

/// Whose interface an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// By the path of a request.
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/api/") {
            Self::Ollama
        } else if path.contains("/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// What went wrong, as this dialect writes it.
    pub(super) fn failure(self, failure: &Failure) -> Value {
        let Failure {
            fault,
            field,
            message,
        } = failure;
        match self {
            Self::OpenAi => json!({"error": {
                "message": message,
                "type": open_ai_type(*fault),
                "param": field,
                "code": open_ai_code(failure),
            }}),
            Self::Anthropic => json!({
                "type": "error",
                "error": {"type": anthropic_type(*fault), "message": message},
            }),
            Self::Ollama => json!({"error": message}),
        }
    }

    /// The answer to a request that failed before anything was sent.
    pub(super) fn refuse(self, failure: &Failure) -> Response {
        let mut response = json_response(&self.failure(failure));
        *response.status_mut() = StatusCode::from_u16(failure.fault.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(failure.fault, Fault::Busy | Fault::Gone) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}

/// A response of JSON.
pub(super) fn json_response(value: &Value) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, content_type)], value.to_string()).into_response()
}

fn open_ai_type(fault: Fault) -> &'static str {
    match fault {
        Fault::Invalid
        | Fault::Context
        | Fault::NotFound
        | Fault::Method
        | Fault::TooLarge
        | Fault::TooSlow => "invalid_request_error",
        Fault::Key => "authentication_error",
        Fault::Forbidden => "permission_error",
        Fault::Busy => "overloaded_error",
        Fault::Gone | Fault::Full | Fault::Internal => "server_error",
    }
}

fn open_ai_code(failure: &Failure) -> Option<&'static str> {
    match failure.fault {
        Fault::Context => Some("context_length_exceeded"),
        Fault::Key => Some("invalid_api_key"),
        Fault::NotFound if failure.field.is_some() => Some("model_not_found"),
        _ => None,
    }
}

fn anthropic_type(fault: Fault) -> &'static str {
    match fault {
        Fault::Invalid | Fault::Context | Fault::Method | Fault::TooSlow => "invalid_request_error",
        Fault::Key => "authentication_error",
        Fault::Forbidden => "permission_error",
        Fault::NotFound => "not_found_error",
        Fault::TooLarge => "request_too_large",
        Fault::Busy => "overloaded_error",
        Fault::Gone | Fault::Full | Fault::Internal => "api_error",
    }
}
