//! What a server holds, as `/cache` tells it and `mlxr cache inspect` reads it.

use serde::{Deserialize, Serialize};

/// Everything that a server holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) models: Vec<HeldModel>,
}

/// A model that is loaded, or about to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum HeldModel {
    Loading { model: String, seconds: f64 },
    Loaded(Box<LoadedModel>),
}

/// A model that is loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoadedModel {
    pub(crate) model: String,
    pub(crate) architecture: String,
    pub(crate) device: String,
    /// Tokens that a sequence may hold.
    pub(crate) context: usize,
    /// Clients that are answered or wait.
    pub(crate) requests: usize,
    /// When it goes if nobody uses it.
    pub(crate) expires_in_seconds: Option<f64>,
    pub(crate) weights_bytes: usize,
    /// What it may take of the device's memory in all.
    pub(crate) memory_bytes_limit: usize,
    /// What sequences and copies of their state take, and may take.
    pub(crate) state_bytes: usize,
    pub(crate) state_bytes_limit: usize,
    /// What a device has handed to the host, and may hand to it.
    pub(crate) offloaded_bytes: usize,
    pub(crate) offloaded_bytes_limit: usize,
    /// Requests that wait for a place.
    pub(crate) waiting: usize,
    /// Requests that are computed.
    pub(crate) live: Vec<HeldRequest>,
    /// The tree of what is known, each after what it goes on from.
    pub(crate) prefixes: Vec<HeldPrefix>,
}

/// A request that is computed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeldRequest {
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) evaluated_tokens: usize,
    pub(crate) produced_tokens: usize,
    pub(crate) limit: usize,
    pub(crate) seconds: f64,
}

/// A run of tokens whose state is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeldPrefix {
    /// Which of the list it goes on from.
    pub(crate) parent: Option<usize>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) bytes: usize,
    pub(crate) offloaded_bytes: usize,
    pub(crate) has_checkpoint: bool,
    pub(crate) is_stored: bool,
    /// Sequences whose own state has it.
    pub(crate) sequences: usize,
    pub(crate) unused_seconds: f64,
    /// How its text begins, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}
