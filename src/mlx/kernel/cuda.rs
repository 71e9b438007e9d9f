//! Kernels of NVIDIA's GPUs: a source for the types and constants of a launch, and its code.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use mlx_rs::Dtype;

use super::super::call::{ArrayVector, check, stream};
use super::{GpuKernel, Launch, compiler, files};
use crate::error::{Error, Result};

const PRELUDE: &str = include_str!("prelude.cu");

/// What a kernel was compiled for so far, and the code of each: few.
#[derive(Debug)]
pub(super) struct Compiled(Mutex<Vec<(Variant, Arc<Vec<u8>>)>>);

/// What code differs by.
#[derive(Debug, PartialEq, Eq)]
struct Variant {
    /// Of inputs, then of outputs.
    types: Vec<Dtype>,
    constants: Vec<i32>,
}

impl Compiled {
    pub(super) const fn none() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

/// Compiles the kernel where it is not compiled for this.
pub(super) fn launch(
    kernel: &GpuKernel,
    launch: &Launch<'_>,
    inputs: &ArrayVector,
    outputs: &mut ArrayVector,
) -> Result<()> {
    let code = code(kernel, launch)?;
    let shapes: Vec<i32> = launch
        .outputs
        .iter()
        .flat_map(|(shape, _)| shape.iter().copied())
        .collect();
    let sizes: Vec<usize> = launch
        .outputs
        .iter()
        .map(|(shape, _)| shape.len())
        .collect();
    let types: Vec<mlx_sys::mlx_dtype> = launch
        .outputs
        .iter()
        .map(|(_, dtype)| (*dtype).into())
        .collect();
    let described = mlx_sys::mlxr_launch {
        name: kernel.name.as_ptr(),
        code: code.as_ptr().cast(),
        code_size: code.len(),
        inputs: inputs.handle(),
        shapes: shapes.as_ptr(),
        ndims: sizes.as_ptr(),
        dtypes: types.as_ptr(),
        outputs: launch.outputs.len(),
        numbers: launch.numbers.as_ptr(),
        number_count: launch.numbers.len(),
        grid: launch.grid,
        block: launch.block,
        shared_memory: kernel.shared_memory,
    };
    let (outputs, stream) = (outputs.handle_mut(), stream());
    // SAFETY: all are valid for the call, which copies them, and there are as many as it says.
    check(unsafe { mlx_sys::mlxr_compiled_kernel(outputs, &raw const described, stream.as_ptr()) })
}

fn code(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<Arc<Vec<u8>>> {
    let inputs = launch.inputs.iter().map(|array| array.dtype());
    let variant = Variant {
        types: inputs
            .chain(launch.outputs.iter().map(|(_, dtype)| *dtype))
            .collect(),
        constants: launch.constants.iter().map(|(_, number)| *number).collect(),
    };
    // Held while one is compiled: whoever else needs it would compile it again.
    let mut known = kernel
        .compiled
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some((_, code)) = known.iter().find(|(known, _)| *known == variant) {
        return Ok(code.clone());
    }
    let source = source(kernel, launch)?;
    let architecture = compiler::architecture()?;
    let place = files::place(kernel.name, &source, &architecture)?;
    let kept = place.as_deref().and_then(files::read);
    let code = if let Some(code) = kept {
        code
    } else {
        let code = compiler::compile(kernel.name, &source, &architecture)?;
        if let Some(place) = &place {
            files::write(place, &code);
        }
        code
    };
    let code = Arc::new(code);
    known.push((variant, code.clone()));
    Ok(code)
}

/// The whole source: a function of the kernel's name, with no name of C++.
fn source(kernel: &GpuKernel, launch: &Launch<'_>) -> Result<CString> {
    let mut parameters = Vec::new();
    for (name, array) in kernel.inputs.iter().zip(launch.inputs) {
        parameters.push(format!(
            "const {}* {}",
            type_name(array.dtype())?,
            text(name)
        ));
    }
    for (name, (_, dtype)) in kernel.outputs.iter().zip(launch.outputs) {
        parameters.push(format!("{}* {}", type_name(*dtype)?, text(name)));
    }
    let numbers = kernel.numbers.iter();
    parameters.extend(numbers.map(|name| format!("int {}", text(name))));
    let mut constants = String::new();
    for (name, number) in launch.constants {
        // Writing into a string cannot fail.
        let _ = writeln!(constants, "constexpr int {} = {number};", text(name));
    }
    let whole = format!(
        "{PRELUDE}{}\nextern \"C\" __global__ void __launch_bounds__({}) {}({}) {{\n{constants}{}\n}}\n",
        text(kernel.header),
        launch.block.iter().product::<i32>(),
        text(kernel.name),
        parameters.join(", "),
        text(kernel.cuda),
    );
    CString::new(whole).map_err(|error| Error::Mlx(error.to_string()))
}

fn text(text: &CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

/// What the sources call a type.
fn type_name(dtype: Dtype) -> Result<&'static str> {
    Ok(match dtype {
        Dtype::Float32 => "float",
        Dtype::Bfloat16 => "mlxr::Bfloat16",
        Dtype::Float16 => "mlxr::Float16",
        Dtype::Uint8 => "unsigned char",
        Dtype::Int32 => "int",
        Dtype::Uint32 => "unsigned",
        Dtype::Int64 => "long long",
        other => {
            return Err(Error::Mlx(format!(
                "no kernel takes numbers of type {other:?}"
            )));
        }
    })
}
