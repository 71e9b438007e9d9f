//! Where arrays lie on a card, for kernels that find their arrays by themselves; and how large the card is.

use std::sync::OnceLock;

use mlx_rs::ops::concatenate;
use mlx_rs::{Array, Dtype, transforms::async_eval};

use super::call::value;
use super::copied::of_type;
use super::kernel::{GpuKernel, Launch, kernel_source};
use super::slice::slice;
use crate::error::{Error, Result};

/// Arrays that one launch takes.
const ARRAYS: usize = 32;

static ADDRESSES: GpuKernel = GpuKernel::for_cuda(
    c"addresses",
    &[
        c"in_0", c"in_1", c"in_2", c"in_3", c"in_4", c"in_5", c"in_6", c"in_7", c"in_8", c"in_9",
        c"in_10", c"in_11", c"in_12", c"in_13", c"in_14", c"in_15", c"in_16", c"in_17", c"in_18",
        c"in_19", c"in_20", c"in_21", c"in_22", c"in_23", c"in_24", c"in_25", c"in_26", c"in_27",
        c"in_28", c"in_29", c"in_30", c"in_31",
    ],
    &[c"out"],
    c"",
    kernel_source(concat!(include_str!("addresses.cu"), "\0")),
);

static MULTIPROCESSORS: GpuKernel = GpuKernel::for_cuda(
    c"multiprocessors",
    &[c"zero"],
    &[c"out"],
    c"",
    c"unsigned count; asm(\"mov.u32 %0, %nsmid;\" : \"=r\"(count)); out[0] = zero[0] + (int)count;",
);

/// The addresses of the arrays' numbers on the card, `[N]`, int64, not evaluated. The arrays are: each is row after
/// row, and stays where it is as long as somebody holds it and the host does not read it.
///
/// # Errors
/// [`Error::Mlx`] where an array is not row after row or has not whole words of 32 bits, or what MLX says.
pub fn addresses(arrays: &[&Array]) -> Result<Array> {
    async_eval(arrays.iter().copied())?;
    let words = |array: &&Array| -> Result<Array> {
        // SAFETY: the array is valid, and evaluated as far as it must be for its layout to be known.
        let in_rows: bool = value(|answer| unsafe {
            mlx_sys::_mlx_array_is_row_contiguous(answer, array.as_ptr())
        })?;
        if !in_rows || array.size() == 0 || !array.nbytes().is_multiple_of(size_of::<u32>()) {
            return Err(Error::Mlx(
                "an array that a kernel is to find does not lie row after row".to_owned(),
            ));
        }
        // Of one type: for others the kernel would be another one.
        of_type(&array.reshape(&[-1])?, Dtype::Uint32)
    };
    let words: Vec<Array> = arrays.iter().map(words).collect::<Result<_>>()?;
    let mut parts = Vec::new();
    for words in words.chunks(ARRAYS) {
        let inputs: Vec<&Array> = (0..ARRAYS)
            .map(|i| &words[i.min(words.len() - 1)])
            .collect();
        let made = ADDRESSES.launch(&Launch {
            inputs: &inputs,
            outputs: &[(&[ARRAYS as i32], Dtype::Int64)],
            numbers: &[],
            constants: &[],
            grid: [ARRAYS as i32, 1, 1],
            block: [ARRAYS as i32, 1, 1],
        })?;
        parts.extend(made);
    }
    slice(&concatenate(&parts, 0)?, 0, ..arrays.len() as i32)
}

/// Multiprocessors of the card, which MLX does not tell; asked once.
///
/// # Errors
/// What MLX says.
pub fn multiprocessors() -> Result<i32> {
    static KNOWN: OnceLock<i32> = OnceLock::new();
    if let Some(&known) = KNOWN.get() {
        return Ok(known);
    }
    let found = count_multiprocessors()?;
    Ok(*KNOWN.get_or_init(|| found))
}

fn count_multiprocessors() -> Result<i32> {
    let zero = Array::from_slice(&[0], &[1]);
    let made = MULTIPROCESSORS.launch(&Launch {
        inputs: &[&zero],
        outputs: &[(&[1], Dtype::Int32)],
        numbers: &[],
        constants: &[],
        grid: [1, 1, 1],
        block: [1, 1, 1],
    })?;
    let count = made.first().map(Array::try_item_exact::<i32>);
    match count {
        Some(Ok(count)) if count > 0 => Ok(count),
        Some(Err(error)) => Err(Error::Mlx(error.to_string())),
        _ => Err(Error::Mlx("the card has no multiprocessors".to_owned())),
    }
}
