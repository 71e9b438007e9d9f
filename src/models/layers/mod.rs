//! What architectures share: the ends of a decoder, the layer that most have, ways to attend, experts.

pub(super) mod block;
pub(super) mod decoder;
pub(super) mod delta;
pub(super) mod experts;
pub(super) mod grouped;
pub(super) mod latent;
pub(super) mod plain;
