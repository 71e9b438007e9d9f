//! What models are built from. Each op decides by device how it is computed; none knows a model, a
//! cache's policy or the engine.
//!
//! Shapes: `T` tokens of all segments laid end to end, `H` heads, `D` head width.

pub mod attention;
pub mod batch;
pub mod decode;
pub mod delta;
pub mod embedding;
pub mod experts;
mod gate;
pub mod heads;
pub mod host;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod numbers;
mod packed;
pub mod rope;
pub mod sampling;
pub mod tensor;
pub mod vector;
