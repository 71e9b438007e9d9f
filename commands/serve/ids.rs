//! Names for what has none: random, so that nobody can guess another's.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A name that begins so.
pub(super) fn fresh(prefix: &str) -> String {
    // The standard library keys each hasher from the system's randomness.
    let random = || RandomState::new().build_hasher().finish();
    format!("{prefix}{:016x}{:08x}", random(), random() >> 32)
}
