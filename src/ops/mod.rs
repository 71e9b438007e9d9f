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
mod packed;
pub mod rope;
pub mod sampling;
pub mod tensor;
pub mod vector;

/// Whether there is a GPU to test on, which is opened.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests may be told which device there is"
)]
fn opens_gpu() -> bool {
    let is_there = std::env::var("MLXR_TEST_DEVICE").is_ok_and(|device| device == "gpu");
    if is_there {
        crate::mlx::open(crate::mlx::DeviceChoice::Gpu, None).unwrap();
    } else {
        eprintln!("skipped: the kernel needs a GPU of NVIDIA (set MLXR_TEST_DEVICE=gpu)");
    }
    is_there
}
