//! Kernels for the CPU: slices in, slices out. Knows nothing of MLX, models or caches.
//!
//! Each kernel is written once over the vectors of `simd` and compiled for every instruction set;
//! which one runs is found out when the program runs. Beside each stands a plain reference that its
//! tests compare it with. Work is spread over the threads of [`pool`].
#![expect(
    unsafe_code,
    reason = "vector instructions and memory shared between threads"
)]
#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a `Kernel` is compiled without its instructions"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "iterators take closures, and those are not always inlined"
)]

mod activations;
pub mod attention;
mod bfloats;
mod codes;
pub mod delta;
pub mod embedding;
pub mod experts;
mod floats;
pub mod gate;
pub mod heads;
pub mod limits;
pub mod linear;
mod lines;
mod matmul;
pub mod matrix;
mod matvec;
pub mod norm;
mod number;
pub mod pages;
mod panel;
mod parts;
pub mod pool;
pub mod quantize;
pub mod rotary;
pub mod router;
pub mod sampling;
mod scratch;
mod simd;
mod starts;
mod storage;
pub mod table;
pub mod text;
mod tiles;

pub use number::CacheNumber;
pub use simd::Instructions;
