//! Arrays to plain bytes, and back: state that leaves a device's memory and returns to it.

use mlx_rs::{Array, Dtype};

use super::call;
use crate::error::{Error, Result};

/// Computes arrays and hands their numbers to `read` as bytes, in row-major order.
///
/// # Errors
/// What MLX says where they cannot be computed.
pub fn with_bytes<T>(arrays: &[Array], read: impl FnOnce(&[&[u8]]) -> T) -> Result<T> {
    let as_bytes = |array: &Array| -> Result<Array> {
        let row = array.contiguous()?.reshape(&[-1])?;
        of_type(&row, Dtype::Uint8)
    };
    let arrays: Vec<Array> = arrays.iter().map(as_bytes).collect::<Result<_>>()?;
    super::eval(&arrays)?;
    let bytes = arrays.iter().map(|array| {
        if array.size() == 0 {
            return Ok(&[][..]);
        }
        // SAFETY: the array is evaluated, of bytes, and alive until `read` is done.
        let pointer = unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()) };
        if pointer.is_null() {
            return Err(Error::Mlx("an array cannot be read".to_owned()));
        }
        // SAFETY: as many bytes as the array has, row-major; nobody writes to it, since `arrays` holds it.
        Ok(unsafe { std::slice::from_raw_parts(pointer, array.size()) })
    });
    let bytes: Vec<&[u8]> = bytes.collect::<Result<_>>()?;
    Ok(read(&bytes))
}

/// An array of a copy of `bytes`, which are its numbers in row-major order.
///
/// # Errors
/// [`Error::Mlx`] where they are not as many as the shape says, or a dimension is out of range.
pub fn array_of_bytes(bytes: &[u8], shape: &[usize], dtype: Dtype) -> Result<Array> {
    let dimensions = super::mapped::dimensions(bytes, shape, dtype)?;
    let rank = dimensions.len() as i32;
    let pointer = bytes.as_ptr().cast();
    // SAFETY: the data holds exactly the shape's elements, and is copied here.
    Ok(unsafe {
        Array::from_ptr(mlx_sys::mlx_array_new_data(
            pointer,
            dimensions.as_ptr(),
            rank,
            dtype.into(),
        ))
    })
}

/// The same numbers in the GPU's own memory, evaluated, where MLX computes with CUDA. What comes from the host is in memory that
/// both share: matrix products of many rows take twice as long there.
///
/// # Errors
/// What MLX says.
pub fn in_device_memory(array: Array) -> Result<Array> {
    if !super::computes_with_cuda()? {
        return Ok(array);
    }
    let bits = match super::item_size(array.dtype()) {
        1 => Dtype::Uint8,
        2 => Dtype::Uint16,
        4 => Dtype::Uint32,
        _ => Dtype::Uint64,
    };
    // MLX has no operation that must copy. One that changes nothing does, and not in place, since there is another
    // holder of what it reads.
    let zero = Array::from_int(0).as_dtype(bits)?;
    let copied = super::right_shift(&of_type(&array, bits)?, &zero)?;
    let copied = of_type(&copied, array.dtype())?;
    super::eval([&copied])?;
    Ok(copied)
}

/// Threads that copy: most of the time goes into memory that is touched for the first time, or into waiting for it.
const THREADS: usize = 8;

/// Where parts begin in [`Staging`]: any type of numbers may lie there.
const ALIGNMENT: usize = 64;

/// As much as MLX counts in 32 bits.
const STAGED: usize = 1 << 30;

/// Copies bytes to as many others of the same lengths, or longer ones.
pub fn copy(mut to: Vec<&mut [u8]>, from: &[&[u8]]) {
    let share = to.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        for (to, from) in to.chunks_mut(share).zip(from.chunks(share)) {
            scope.spawn(move || {
                for (to, from) in to.iter_mut().zip(from) {
                    to[..from.len()].copy_from_slice(from);
                }
            });
        }
    });
}

/// Memory of the host through which bytes go to a device. It is ready for use after the first time, which new
/// arrays never are.
#[derive(Debug, Default)]
pub struct Staging(Option<Array>);

impl Staging {
    /// Arrays of copies of bytes, each with a shape and a type. They lie in this memory: they are to be evaluated
    /// into others before the next call.
    ///
    /// # Errors
    /// [`Error::Mlx`] where bytes are not as many as their shape says, and what MLX says.
    pub fn put(&mut self, parts: &[(&[u8], &[usize], Dtype)]) -> Result<Vec<Array>> {
        let ends = parts.iter().scan(0, |end, (bytes, ..)| {
            *end += bytes.len().next_multiple_of(ALIGNMENT);
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        let length = ends.last().copied().unwrap_or(0);
        if length == 0 || length > STAGED {
            let arrays = parts.iter();
            let arrays = arrays.map(|(bytes, shape, dtype)| array_of_bytes(bytes, shape, *dtype));
            return arrays.collect();
        }
        let memory = match self.0.take() {
            Some(memory) if memory.size() >= length => memory,
            // Made of bytes it lies in the host's memory, as it must.
            _ => array_of_bytes(&vec![0; length], &[length], Dtype::Uint8)?,
        };
        // What reads it may not be done.
        super::synchronize()?;
        // SAFETY: the array is evaluated, of bytes, and ours alone.
        let pointer = unsafe { mlx_sys::mlx_array_data_uint8(memory.as_ptr()) }.cast_mut();
        if pointer.is_null() {
            return Err(Error::Mlx("an array cannot be written".to_owned()));
        }
        // SAFETY: as many bytes as the array has; nobody reads them now, and no other array has them but those
        // of the call before.
        let mut rest = unsafe { std::slice::from_raw_parts_mut(pointer, memory.size()) };
        let mut places = Vec::with_capacity(parts.len());
        for (bytes, ..) in parts {
            let (place, left) = rest.split_at_mut(bytes.len().next_multiple_of(ALIGNMENT));
            places.push(place);
            rest = left;
        }
        let bytes: Vec<&[u8]> = parts.iter().map(|(bytes, ..)| *bytes).collect();
        copy(places, &bytes);
        let arrays = parts.iter().zip(&ends).map(|((bytes, shape, dtype), end)| {
            let dimensions = super::mapped::dimensions(bytes, shape, *dtype)?;
            let start = end - bytes.len().next_multiple_of(ALIGNMENT);
            let range = start as i32..(start + bytes.len()) as i32;
            let part = super::slice(&memory, 0, range)?;
            Ok(of_type(&part, *dtype)?.reshape(&dimensions)?)
        });
        let arrays = arrays.collect();
        self.0 = Some(memory);
        arrays
    }
}

/// The same bytes as numbers of another type; where theirs is of another size, `array` has one dimension.
pub(super) fn of_type(array: &Array, dtype: Dtype) -> Result<Array> {
    // SAFETY: all handles are valid for the call.
    call::array(|out| unsafe {
        mlx_sys::mlx_view(out, array.as_ptr(), dtype.into(), call::stream().as_ptr())
    })
}
