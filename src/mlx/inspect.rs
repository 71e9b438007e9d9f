//! What MLX's library in use is and which devices it has, for people. Chooses nothing.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::OnceLock;

use super::call::{check, value};
use super::device::Device;
use super::kernel::is_metal;
use crate::error::{Error, Result};

/// The library in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its file, or its bare name where the system found it.
    pub place: String,
    /// The version of MLX.
    pub version: String,
    /// `cpu`, and what else it is made for: `metal` or `cuda`. Whether there is such a device is told by [`devices`].
    pub backends: Vec<&'static str>,
    /// Every place that was tried before, and why it did not serve.
    pub passed_over: Vec<(String, String)>,
}

/// The library in use; none before [`super::open`].
///
/// # Errors
/// What MLX says.
pub fn library() -> Result<Option<Library>> {
    let Some(loaded) = mlx_sys::loaded() else {
        return Ok(None);
    };
    let mut backends = vec!["cpu"];
    if is_metal()? {
        backends.push("metal");
    }
    // SAFETY: writes one flag.
    if value(|available| unsafe { mlx_sys::mlx_cuda_is_available(available) })? {
        backends.push("cuda");
    }
    let passed_over = loaded.passed_over.iter();
    Ok(Some(Library {
        place: loaded.place.clone(),
        version: loaded.version.clone(),
        backends,
        passed_over: passed_over
            .map(|attempt| (attempt.place.clone(), attempt.reason.clone()))
            .collect(),
    }))
}

/// Whether a driver of NVIDIA is loaded, which the library need not be able to use.
pub fn has_nvidia_driver() -> bool {
    mlx_sys::Machine::here().nvidia
}

/// What MLX tells of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProperties {
    /// Which kind.
    pub device: Device,
    /// What its maker calls it.
    pub name: Option<String>,
    /// Its own memory in bytes.
    pub memory: Option<usize>,
}

/// The devices of the library in use, the CPU first; loads one by the usual search where none is.
///
/// # Errors
/// What MLX says.
pub fn devices() -> Result<Vec<DeviceProperties>> {
    let mut found = Vec::new();
    for (device, kind) in [
        (Device::Cpu, mlx_sys::mlx_device_type__MLX_CPU),
        (Device::Gpu, mlx_sys::mlx_device_type__MLX_GPU),
    ] {
        // SAFETY: writes one integer.
        let count = value(|count| unsafe { mlx_sys::mlx_device_count(count, kind) })?;
        for index in 0..count {
            let information = Information::of(kind, index)?;
            found.push(DeviceProperties {
                device,
                name: information.text(c"device_name")?,
                // The first is CUDA's, the second Metal's.
                memory: match information.size(c"total_memory")? {
                    Some(bytes) => Some(bytes),
                    None => information.size(c"memory_size")?,
                },
            });
        }
    }
    Ok(found)
}

/// Of the NVIDIA GPU that computes, both parts.
///
/// # Errors
/// What MLX says; where it is no GPU of NVIDIA.
pub(super) fn compute_capability() -> Result<[usize; 2]> {
    let information = Information::of(mlx_sys::mlx_device_type__MLX_GPU, 0)?;
    let part = |key| {
        let absent = || Error::Mlx("the GPU has no compute capability".to_owned());
        information.size(key)?.ok_or_else(absent)
    };
    Ok([
        part(c"compute_capability_major")?,
        part(c"compute_capability_minor")?,
    ])
}

/// Whether a block has 227 KB of shared memory, and the card a copy engine that knows matrices: those of compute capability
/// 9 and 10 (CUDA's programming guide, technical specifications). Asked once.
///
/// # Errors
/// What MLX says.
pub fn has_large_blocks() -> Result<bool> {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    if let Some(&known) = KNOWN.get() {
        return Ok(known);
    }
    let [major, _] = compute_capability()?;
    Ok(*KNOWN.get_or_init(|| matches!(major, 9 | 10)))
}

/// What MLX tells of a device, freed when dropped.
struct Information(mlx_sys::mlx_device_info);

impl Information {
    fn of(kind: mlx_sys::mlx_device_type, index: i32) -> Result<Self> {
        // SAFETY: makes an empty handle.
        let mut made = Self(unsafe { mlx_sys::mlx_device_info_new() });
        // SAFETY: a fresh device handle, freed after use; the other is ours.
        unsafe {
            let device = mlx_sys::mlx_device_new_type(kind, index);
            let status = mlx_sys::mlx_device_info_get(&raw mut made.0, device);
            mlx_sys::mlx_device_free(device);
            check(status)?;
        }
        Ok(made)
    }

    /// Whether there is a value of this name, and whether it is a text.
    fn has(&self, key: &CStr, wanted_text: bool) -> Result<bool> {
        // SAFETY: writes one flag; handle and name are valid.
        let exists: bool = value(|exists| unsafe {
            mlx_sys::mlx_device_info_has_key(exists, self.0, key.as_ptr())
        })?;
        if !exists {
            return Ok(false);
        }
        // SAFETY: likewise.
        let is_text: bool = value(|is_text| unsafe {
            mlx_sys::mlx_device_info_is_string(is_text, self.0, key.as_ptr())
        })?;
        Ok(is_text == wanted_text)
    }

    fn text(&self, key: &CStr) -> Result<Option<String>> {
        if !self.has(key, true)? {
            return Ok(None);
        }
        let mut text: *const c_char = ptr::null();
        // SAFETY: writes one pointer; handle and name are valid.
        check(unsafe { mlx_sys::mlx_device_info_get_string(&raw mut text, self.0, key.as_ptr()) })?;
        if text.is_null() {
            return Ok(None);
        }
        // SAFETY: a C string that lives as long as the handle.
        let text = unsafe { CStr::from_ptr(text) };
        Ok(Some(text.to_string_lossy().into_owned()))
    }

    fn size(&self, key: &CStr) -> Result<Option<usize>> {
        if !self.has(key, false)? {
            return Ok(None);
        }
        // SAFETY: writes one integer; handle and name are valid.
        let size =
            value(|size| unsafe { mlx_sys::mlx_device_info_get_size(size, self.0, key.as_ptr()) })?;
        Ok(Some(size))
    }
}

impl Drop for Information {
    fn drop(&mut self) {
        // SAFETY: the handle is ours. Freeing cannot fail in a way that we could act on.
        unsafe { mlx_sys::mlx_device_info_free(self.0) };
    }
}
