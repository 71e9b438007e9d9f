//! Sampling against a scalar reference.
