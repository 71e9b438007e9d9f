//! Which library and which device compute.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mlx_sys::Search;

use super::call::{check, stream, value};
use crate::error::{Error, Result};

/// The device asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is one and MLX can use it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error.
    Gpu,
}

/// The device in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The first GPU.
    Gpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

/// Whether [`open`] chose the CPU last, and its kernels compute.
static ON_CPU: AtomicBool = AtomicBool::new(false);

/// Whether the device that [`open`] chose is the CPU, where our kernels compute.
pub fn computes_on_cpu() -> bool {
    ON_CPU.load(Ordering::Relaxed)
}

/// Loads MLX's library, once, and makes the chosen device the one that computes.
///
/// `library` names a library file or a folder with one; `None` searches the usual places.
///
/// # Errors
/// [`Error::MlxLibrary`] with every place tried, or [`Error::NoGpu`] where no GPU can be used.
pub fn open(choice: DeviceChoice, library: Option<&Path>) -> Result<Device> {
    let gpu = match choice {
        DeviceChoice::Auto => None,
        DeviceChoice::Cpu => Some(false),
        DeviceChoice::Gpu => Some(true),
    };
    let search = Search::new(library.map(Path::to_path_buf), gpu);
    mlx_sys::load(&search).map_err(|attempts| {
        let tried = attempts
            .into_iter()
            .map(|attempt| (attempt.place, attempt.reason))
            .collect();
        if gpu == Some(true) && !search.machine.nvidia && search.machine.macos.is_none() {
            return Error::NoGpu("this machine has none that MLX can use".to_owned());
        }
        Error::MlxLibrary { tried }
    })?;
    let device = match (choice, gpu_count()? > 0) {
        (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, false) => Device::Cpu,
        (DeviceChoice::Auto | DeviceChoice::Gpu, true) => Device::Gpu,
        (DeviceChoice::Gpu, false) => {
            let place = mlx_sys::loaded().map_or("", |loaded| &loaded.place);
            return Err(Error::NoGpu(format!("{place} finds none that it can use")));
        }
    };
    use_device(device)?;
    ON_CPU.store(device == Device::Cpu, Ordering::Relaxed);
    Ok(device)
}

/// Makes MLX compute on the CPU that [`open`] chose as it does on a GPU, by graphs, and not the kernels:
/// slow, and for tests of the graphs where there is no GPU.
pub fn compute_by_graphs() {
    ON_CPU.store(false, Ordering::Relaxed);
}

/// The version of the MLX library in use.
pub fn library_version() -> Option<&'static str> {
    mlx_sys::loaded().map(|loaded| loaded.version.as_str())
}

/// Waits until everything that this thread has queued is done.
///
/// # Errors
/// What MLX says of the work.
pub fn synchronize() -> Result<()> {
    // SAFETY: the handle is valid for the call.
    check(unsafe { mlx_sys::mlx_synchronize(stream().as_ptr()) })
}

fn gpu_count() -> Result<i32> {
    // SAFETY: writes one integer.
    value(|count| unsafe { mlx_sys::mlx_device_count(count, mlx_sys::mlx_device_type__MLX_GPU) })
}

fn use_device(device: Device) -> Result<()> {
    let kind = match device {
        Device::Cpu => mlx_sys::mlx_device_type__MLX_CPU,
        Device::Gpu => mlx_sys::mlx_device_type__MLX_GPU,
    };
    // SAFETY: a fresh device handle, freed after use.
    unsafe {
        let handle = mlx_sys::mlx_device_new_type(kind, 0);
        let status = mlx_sys::mlx_set_default_device(handle);
        mlx_sys::mlx_device_free(handle);
        check(status)?;
        if device == Device::Cpu {
            // On the CPU a compiled function would call a C++ compiler at run time.
            check(mlx_sys::mlx_disable_compile())?;
        }
    }
    Ok(())
}
