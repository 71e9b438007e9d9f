//! What went wrong, as a client of the server is told: one table from errors to kinds of failures, and one from
//! those to HTTP's statuses. How a dialect writes it is not known here.

use mlxr::Error;
use serde::{Deserialize, Serialize};

/// Whose fault it is, in the terms of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The request means nothing or asks for what there is not.
    Invalid,
    /// The prompt is too long for the model, or for the memory.
    Context,
    /// No key, or a wrong one.
    Key,
    /// Who asks may not.
    Forbidden,
    /// There is no such model or address.
    NotFound,
    /// The address knows another method.
    Method,
    /// The request is too large.
    TooLarge,
    /// The client took too long to say what it wants.
    TooSlow,
    /// Too much is asked at once: later it would do.
    Busy,
    /// The weights do not fit beside what is loaded.
    Full,
    /// The model is loaded no more; the next request loads it again.
    Gone,
    /// Something that the client cannot change.
    Internal,
}

impl Fault {
    /// The status of HTTP.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::Context => 400,
            Self::Key => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::TooSlow => 408,
            Self::TooLarge => 413,
            Self::Busy | Self::Gone => 503,
            Self::Full | Self::Internal => 500,
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The field of the request that is to blame, where it is one.
    pub(crate) field: Option<String>,
    /// One sentence without a full stop.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            field: None,
            message: message.into(),
        }
    }

    /// A field of a request is not what it should be.
    pub(crate) fn field(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self {
            fault: Fault::Invalid,
            message: format!("{field}: {problem}"),
            field: Some(field),
        }
    }

    /// The same of a field that is inside of another one.
    pub(crate) fn within(mut self, outer: &str) -> Self {
        if let Some(field) = &mut self.field {
            *field = format!("{outer}.{field}");
            self.message = format!("{outer}.{}", self.message);
        }
        self
    }

    /// The table: what is wrong with a request is its client's to change, all else is not. There is no catch-all
    /// arm: a new error must be given its row.
    pub(crate) fn of(error: &Error) -> Self {
        let fault = match error {
            Error::Part { source, .. } => Self::of(source).fault,
            Error::Template(_)
            | Error::InvalidUtf8 { .. }
            | Error::EmptyPrompt
            | Error::Sampling { .. }
            | Error::Request { .. } => Fault::Invalid,
            Error::ContextOverflow { .. } | Error::Memory { .. } => Fault::Context,
            Error::ModelNotFound { .. } | Error::NotCached(_) => Fault::NotFound,
            Error::EngineStopped(_) => Fault::Gone,
            Error::Io { .. }
            | Error::MissingFile { .. }
            | Error::Config { .. }
            | Error::UnknownArchitecture { .. }
            | Error::Weights { .. }
            | Error::Gguf { .. }
            | Error::Kept { .. }
            | Error::TensorNames { .. }
            | Error::Tokenizer { .. }
            | Error::Benchmark { .. }
            | Error::Quantize { .. }
            | Error::Hub { .. }
            | Error::HubRefused { .. }
            | Error::Server { .. }
            | Error::Offline { .. }
            | Error::WeightsMemory { .. }
            | Error::MlxLibrary { .. }
            | Error::Mlx(_)
            | Error::Ranks(_)
            | Error::Apart(_)
            | Error::NoGpu(_)
            | Error::ForeignToken { .. }
            | Error::NotFinite => Fault::Internal,
        };
        let field = match error {
            Error::Sampling { field, .. } | Error::Request { field, .. } => {
                Some((*field).to_owned())
            }
            _ => None,
        };
        Self {
            fault,
            field,
            message: error.to_string(),
        }
    }

    /// The same, where the client has no part in it: a model that cannot be loaded.
    pub(crate) fn of_server(error: &Error) -> Self {
        let fault = match error {
            Error::WeightsMemory { .. } => Fault::Full,
            _ => Fault::Internal,
        };
        Self::new(fault, error.to_string())
    }
}
