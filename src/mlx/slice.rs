//! Slices with Python's meaning: negative counts from the end, open ends, out of range is cut, and
//! what is empty is empty (MLX's own zero means "to the end" in some bindings).

use std::ops::{Bound, RangeBounds};

use mlx_rs::Array;

use super::call::{array, stream};
use crate::error::{Error, Result};

/// `array[.., range, ..]` along `axis`, the axis kept.
///
/// # Errors
/// [`Error::Mlx`] where there is no such axis.
pub fn slice(source: &Array, axis: usize, range: impl RangeBounds<i32>) -> Result<Array> {
    let (starts, stops) = bounds(source, axis, &range)?;
    let strides = vec![1; starts.len()];
    // SAFETY: three vectors of the array's rank.
    array(|out| unsafe {
        mlx_sys::mlx_slice(
            out,
            source.as_ptr(),
            starts.as_ptr(),
            starts.len(),
            stops.as_ptr(),
            stops.len(),
            strides.as_ptr(),
            strides.len(),
            stream().as_ptr(),
        )
    })
}

/// `source` with `array[.., range, ..]` along `axis` replaced by `update`.
///
/// # Errors
/// [`Error::Mlx`] where there is no such axis or the shapes do not agree.
pub fn slice_update(
    source: &Array,
    update: &Array,
    axis: usize,
    range: impl RangeBounds<i32>,
) -> Result<Array> {
    let (starts, stops) = bounds(source, axis, &range)?;
    let strides = vec![1; starts.len()];
    // SAFETY: three vectors of the array's rank.
    array(|out| unsafe {
        mlx_sys::mlx_slice_update(
            out,
            source.as_ptr(),
            update.as_ptr(),
            starts.as_ptr(),
            starts.len(),
            stops.as_ptr(),
            stops.len(),
            strides.as_ptr(),
            strides.len(),
            stream().as_ptr(),
        )
    })
}

/// First and past-the-last index on every axis.
fn bounds(
    source: &Array,
    axis: usize,
    range: &impl RangeBounds<i32>,
) -> Result<(Vec<i32>, Vec<i32>)> {
    let mut stops = source.shape().to_vec();
    let mut starts = vec![0; stops.len()];
    let Some(&length) = stops.get(axis) else {
        return Err(Error::Mlx(format!(
            "axis {axis} of an array of {} axes",
            stops.len()
        )));
    };
    (starts[axis], stops[axis]) = resolve(range, length);
    Ok((starts, stops))
}

/// Python's rule for `start:stop` on an axis of `length`.
pub(super) fn resolve(range: &impl RangeBounds<i32>, length: i32) -> (i32, i32) {
    let from_end = |index: i32| {
        if index < 0 {
            index.saturating_add(length)
        } else {
            index
        }
    };
    let clamp = |index: i32| from_end(index).clamp(0, length);
    let start = match range.start_bound() {
        Bound::Included(&start) => clamp(start),
        Bound::Excluded(&start) => clamp(start.saturating_add(1)),
        Bound::Unbounded => 0,
    };
    let stop = match range.end_bound() {
        Bound::Included(&-1) | Bound::Unbounded => length,
        Bound::Included(&stop) => clamp(stop.saturating_add(1)),
        Bound::Excluded(&stop) => clamp(stop),
    };
    (start, stop.max(start))
}
