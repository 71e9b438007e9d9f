//! Makes a packed checkpoint of a dense one: what each tensor is for decides how it is packed ([`plan()`]), and tensors
//! are read, packed and written one after the other ([`write()`]). Knows no engine: what was lost is measured
//! elsewhere.

mod checkpoint;
mod error;
mod journal;
mod layout;
mod mix;
mod plan;
mod read;
mod recipe;
mod settings;
mod source;
mod strided;
mod verify;
mod write;

pub use checkpoint::Checkpoint;
pub use error::{TensorError, errors, loss};
pub use mix::{Part, mix};
pub use plan::{Plan, Planned, plan};
pub use recipe::Recipe;
pub use settings::{Choice, DType, Override, QuantizeSettings};
pub use verify::{Verified, verify};
pub use write::{WriteOptions, Written, write};

/// The file beside the weights that says how they were made, with a digest of each tensor.
pub const MANIFEST: &str = "mlxr_quantize.json";
