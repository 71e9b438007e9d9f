//! How many operations MLX launches for what is computed.

use std::cell::Cell;

use mlx_rs::{Array, error::Exception, transforms};

use super::call::{ArrayVector, value};
use crate::error::{Error, Result};

thread_local! {
    /// Those of this thread since somebody asked; `None` where nobody does.
    static COUNTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What `work` gives, and how many operations MLX launches for the arrays that it hands to [`async_eval`] on this thread:
/// all but those that only look at memory in another way. Mind that one may be several kernels. `None` where the library
/// cannot count.
pub fn count_operations<T>(work: impl FnOnce() -> T) -> (T, Option<usize>) {
    COUNTED.set(Some(0));
    let done = work();
    (done, COUNTED.take())
}

/// Begins to compute arrays, and does not wait.
///
/// # Errors
/// What MLX says.
pub fn async_eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<(), Exception> {
    let Some(before) = COUNTED.get() else {
        return transforms::async_eval(arrays);
    };
    let arrays: Vec<&Array> = arrays.into_iter().collect();
    let count = operations(&arrays).ok();
    COUNTED.set(count.map(|count| before + count));
    transforms::async_eval(arrays)
}

fn operations(arrays: &[&Array]) -> Result<usize> {
    if !mlx_sys::has_native_parts() {
        return Err(Error::Mlx("the library does not count".to_owned()));
    }
    let arrays = ArrayVector::of(arrays)?;
    // SAFETY: the arrays are valid for the call, which only looks at them.
    value(|count| unsafe { mlx_sys::mlxr_count_operations(count, arrays.handle()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{DeviceChoice, open};

    #[test]
    fn operations_are_counted_once_and_views_are_none() {
        open(DeviceChoice::Cpu, None).unwrap();
        let one = Array::from_slice(&[1_f32, 2.0], &[2]);
        let sum = one.add(&one).unwrap();
        let both = sum.multiply(sum.reshape(&[1, 2]).unwrap()).unwrap();
        let (done, count) = count_operations(|| async_eval([&both, &sum]));
        done.unwrap();
        assert_eq!(count, Some(2));
        let (done, count) = count_operations(|| async_eval([&both]));
        done.unwrap();
        assert_eq!(count, Some(0), "they are computed");
        assert_eq!(COUNTED.get(), None);
    }
}
