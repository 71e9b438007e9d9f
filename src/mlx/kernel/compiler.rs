//! NVRTC: from source to code for the card.

use std::ffi::{CStr, CString, c_int};
use std::ptr;

use mlx_sys::nvrtc::{self, Program};

use super::super::inspect::compute_capability;
use crate::error::{Error, Result};

/// The first that knows other instructions than those after it, which an `a` asks for.
const FIRST_WITH_OWN: usize = 9;

/// What code is made for: the card's architecture, as NVRTC's option.
pub(super) fn architecture() -> Result<CString> {
    let [major, minor] = compute_capability()?;
    let own = if major >= FIRST_WITH_OWN { "a" } else { "" };
    CString::new(format!("--gpu-architecture=sm_{major}{minor}{own}"))
        .map_err(|error| Error::Mlx(error.to_string()))
}

/// Which NVRTC it is.
pub(super) fn version() -> Result<[i32; 2]> {
    let [mut major, mut minor] = [0, 0];
    // SAFETY: writes two integers.
    let status = unsafe { nvrtc::nvrtcVersion(&raw mut major, &raw mut minor) };
    told(status, "tell its version")?;
    Ok([major, minor])
}

/// A cubin.
pub(super) fn compile(name: &CStr, source: &CStr, architecture: &CStr) -> Result<Vec<u8>> {
    let program = Source::new(name, source)?;
    let options = [
        c"--device-as-default-execution-space".as_ptr(),
        architecture.as_ptr(),
    ];
    // SAFETY: the program is valid, and so are the options.
    let status =
        unsafe { nvrtc::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr()) };
    if status != 0 {
        let problem = program
            .problem()
            .unwrap_or_else(|| format!("status {status}"));
        return Err(Error::Mlx(format!(
            "NVRTC could not compile the kernel {}: {problem}",
            name.to_string_lossy()
        )));
    }
    let mut size = 0;
    // SAFETY: writes one integer.
    let status = unsafe { nvrtc::nvrtcGetCUBINSize(program.0, &raw mut size) };
    told(status, "give its code")?;
    let mut code = vec![0_u8; size];
    // SAFETY: there is room for so many bytes.
    let status = unsafe { nvrtc::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()) };
    told(status, "give its code")?;
    Ok(code)
}

/// A program, destroyed when dropped.
struct Source(Program);

impl Source {
    fn new(name: &CStr, source: &CStr) -> Result<Self> {
        let mut made = Self(ptr::null_mut());
        let (source, name) = (source.as_ptr(), name.as_ptr());
        let (headers, names) = (ptr::null(), ptr::null());
        // SAFETY: both texts are valid for the call, which copies them; there are no headers.
        let status =
            unsafe { nvrtc::nvrtcCreateProgram(&raw mut made.0, source, name, 0, headers, names) };
        told(status, "take a source")?;
        Ok(made)
    }

    /// The first error.
    fn problem(&self) -> Option<String> {
        let mut size = 0;
        // SAFETY: writes one integer.
        let status = unsafe { nvrtc::nvrtcGetProgramLogSize(self.0, &raw mut size) };
        let mut log = vec![0_u8; size];
        // SAFETY: there is room for so many bytes.
        if status != 0 || unsafe { nvrtc::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()) } != 0
        {
            return None;
        }
        let log = String::from_utf8_lossy(&log);
        let mut lines = log.lines();
        lines.find(|line| line.contains("error")).map(str::to_owned)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: the program is ours, or null, which is refused.
        unsafe { nvrtc::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

fn told(status: c_int, what: &str) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    Err(Error::Mlx(format!(
        "NVRTC could not {what}: status {status}"
    )))
}
