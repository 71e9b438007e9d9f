//! The core of `mlxr`: no terminal, no arguments, no HTTP, no environment variables, no async.
//!
//! The journey of a token: [`hub`] finds the model's [`files`], `config` and `weights` read them,
//! [`tokenizer`] turns messages into ids, [`engine`] schedules them onto a `models` forward over
//! `cache` layers built from `ops` on `mlx`, [`sample`] says how the next id is chosen, [`constraint`]
//! among which, and the tokenizer's streaming decoder turns it back into text.

pub mod bandwidth;
pub mod cache;
pub mod config;
pub mod constraint;
pub mod engine;
pub mod error;
pub mod files;
pub mod gguf;
pub mod hub;
pub mod kernels;
pub mod memory;
pub mod mlx;
pub mod models;
mod open;
pub mod ops;
pub mod progress;
pub mod quantize;
pub mod sample;
pub mod tokenizer;
pub mod weights;

pub use error::{Error, Result};
pub use open::{
    Kept, LoadOptions, LoadParts, Loaded, ModelDescription, Sharing, Span, follow, open,
    open_engine, open_stepper,
};
