//! What a shell completes where a model is to be named: those of the hub's cache, and folders.

use std::ffi::OsStr;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use mlxr::hub;

use crate::settings::Settings;

/// Models that are named or lie in a folder.
pub(super) fn models(begun: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = cached_models(begun);
    candidates.extend(PathCompleter::dir().complete(begun));
    candidates
}

/// Models of the hub's cache. A shell cannot be told what went wrong, so that there are none then.
pub(super) fn cached_models(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str() else {
        return Vec::new();
    };
    let models = Settings::hub().and_then(|settings| hub::list(&settings));
    let models = models.unwrap_or_default().into_iter();
    let ids = models.map(|model| model.id);
    ids.filter(|id| id.starts_with(begun))
        .map(CompletionCandidate::new)
        .collect()
}
