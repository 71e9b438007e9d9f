//! How fast the memory of the device is: what a decoded token's time is held against. Knows no model.

use std::hint::black_box;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::mlx::{self, Device};

/// Bytes that are read on a CPU: many times the caches of all but the largest servers.
const HOST_BYTES: usize = 1 << 30;

/// Elements of float32 that are copied on a GPU: many times its caches.
const DEVICE_ELEMENTS: i32 = 256 << 20;

/// Passes of each kind, at least; the fastest counts, since whatever else runs only makes them slower.
const PASSES: usize = 5;

/// Passes go on for this long, so that one quiet moment on a busy machine is found.
const LEAST_TIME: Duration = Duration::from_millis(300);

/// Bytes per second, of reads and writes together, that the memory of `device` gives. On a CPU the
/// larger of what reading and what copying reaches with `threads` (`None`: one for each core); on a
/// GPU what a copy of MLX's reaches.
///
/// # Errors
/// What MLX says.
pub fn measure(device: Device, threads: Option<usize>) -> Result<f64> {
    match device {
        Device::Cpu => {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            Ok(host(threads.unwrap_or(cores)))
        }
        Device::Gpu => copied_on_device(),
    }
}

fn host(threads: usize) -> f64 {
    // Written, so that there is memory behind every page.
    let mut bytes = vec![1_u8; HOST_BYTES];
    let (left, right) = bytes.split_at_mut(HOST_BYTES / 2);
    let share = left.len().div_ceil(threads);
    // Equal halves have to be read to the end.
    let read = fastest(|| {
        thread::scope(|scope| {
            for (left, right) in left.chunks(share).zip(right.chunks(share)) {
                scope.spawn(move || black_box(left == right));
            }
        });
    });
    let copied = fastest(|| {
        thread::scope(|scope| {
            for (left, right) in left.chunks(share).zip(right.chunks_mut(share)) {
                scope.spawn(move || right.copy_from_slice(left));
            }
        });
    });
    HOST_BYTES as f64 / read.min(copied).as_secs_f64()
}

fn fastest(mut pass: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut passes = 0;
    while passes < PASSES || begin.elapsed() < LEAST_TIME {
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed());
        passes += 1;
    }
    best
}

fn copied_on_device() -> Result<f64> {
    let source = mlx::ops::ones::<f32>(&[DEVICE_ELEMENTS])?;
    mlx::eval([&source])?;
    let mut outcome = Ok(());
    let copy = || -> Result<()> {
        let copied = source.negative()?;
        mlx::eval([&copied])?;
        mlx::synchronize()
    };
    // The first pass may compile.
    copy()?;
    let best = fastest(|| {
        if outcome.is_ok() {
            outcome = copy();
        }
    });
    outcome?;
    Ok(2.0 * source.nbytes() as f64 / best.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{HOST_BYTES, host};

    #[test]
    fn memory_is_faster_than_a_disk_and_slower_than_a_cache() {
        let bandwidth = host(1);
        assert!(
            (1e8..1e13).contains(&bandwidth),
            "{bandwidth} of {HOST_BYTES}"
        );
    }
}
