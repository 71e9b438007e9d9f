//! A step of one token for each of a few sequences, through a whole model, as one kernel for NVIDIA's GPUs.
//!
//! A step of decoding reads all weights once and computes little with them. As a graph it is some hundred kernels,
//! each of which waits for the one before and is launched by the host. Here a model is a list of instructions in the
//! card's memory, made once ([`Builder`]), which one kernel goes through with all multiprocessors: they meet after each.
//! What is not known to it is left to the graph.

mod attention;
mod builder;
mod experts;
mod handed;
mod instruction;
mod kernel;
mod program;
mod stored;
#[cfg(test)]
mod tests;
mod then;

/// What multiplies, for products by themselves.
pub(super) mod product {
    pub(in crate::ops) use super::instruction::warps_of_a_tile;
    pub(in crate::ops) use super::kernel::{SHARED, THREADS};
    pub(in crate::ops) use super::stored::stored;
}

pub use builder::Builder;
pub use program::{Program, Step};

/// Sequences that a step takes at most, of a model of any size.
const ROWS: usize = 16;
