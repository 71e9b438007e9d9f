//! Makes the MLX library ready: MLX's wheel by pip, mlx-c compiled against it.
//!
//! Nothing is linked: the program finds the library at run time, last in the folder named by
//! `MLXR_BUILT_LIBRARIES`. With `MLXR_MLX_DIR` set to an existing installation, nothing is made.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "cargo and build scripts speak through the environment and standard output"
)]

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod compile;
mod wheel;

/// What the result depends on, relative to the package.
const INPUTS: &[&str] = &[
    "../MLX_VERSION",
    "../MLX_C_VERSION",
    "../wheels",
    "../mlx-c/Cargo.toml",
    "../mlx-c/Cargo.lock",
    "native",
    "build",
];

fn main() -> ExitCode {
    for input in INPUTS {
        println!("cargo::rerun-if-changed={input}");
    }
    for name in ["MLXR_MLX_DIR", "CXX"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    match prepare() {
        Ok(folder) => {
            println!("cargo::rustc-env=MLXR_BUILT_LIBRARIES={}", folder.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("cargo::error={problem}");
            ExitCode::FAILURE
        }
    }
}

/// The folder with the variant folders `mlx_*`.
fn prepare() -> Result<PathBuf, String> {
    if let Some(existing) = std::env::var_os("MLXR_MLX_DIR") {
        return existing_installation(Path::new(&existing));
    }
    let key = inputs_key()?;
    let cache = target_folder()?.join("mlx").join(key);
    for backend in backends()? {
        let variant = cache.join(backend.variant);
        if !variant.is_dir() {
            make_variant(&backend, &variant)?;
        }
    }
    Ok(cache)
}

/// An installation: a folder with the library, or with variant folders.
fn existing_installation(folder: &Path) -> Result<PathBuf, String> {
    let problem = |problem: &str| format!("MLXR_MLX_DIR={}: {problem}", folder.display());
    let whole = folder
        .canonicalize()
        .map_err(|error| problem(&error.to_string()))?;
    let entries = fs::read_dir(&whole).map_err(|error| problem(&error.to_string()))?;
    let is_library = |name: &str| name.starts_with("mlx_") || name.starts_with("libmlxc.");
    if entries
        .flatten()
        .any(|entry| is_library(&entry.file_name().to_string_lossy()))
    {
        return Ok(whole);
    }
    Err(problem(
        "it has neither libmlxc nor a folder mlx_cpu, mlx_cuda_v13 or mlx_metal_v3",
    ))
}

/// One kind of MLX library.
struct Backend {
    /// The folder that it goes to.
    variant: &'static str,
    /// The file of pinned wheels, without its ending.
    wheel: &'static str,
}

fn backends() -> Result<Vec<Backend>, String> {
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let cpu = Backend {
        variant: "mlx_cpu",
        wheel: "cpu",
    };
    let mut backends = match (target("OS").as_str(), target("ARCH").as_str()) {
        ("macos", "aarch64") => vec![Backend {
            variant: "mlx_metal_v3",
            wheel: "metal",
        }],
        ("linux", "x86_64" | "aarch64") => vec![cpu],
        (os, arch) => {
            return Err(format!(
                "there is no MLX for {os} on {arch}: set MLXR_MLX_DIR to an installation of it"
            ));
        }
    };
    if cfg!(feature = "cuda12") {
        backends.push(Backend {
            variant: "mlx_cuda_v12",
            wheel: "cuda12",
        });
    }
    if cfg!(feature = "cuda13") {
        backends.push(Backend {
            variant: "mlx_cuda_v13",
            wheel: "cuda13",
        });
    }
    Ok(backends)
}

/// Makes one variant in a temporary folder and puts it in its place in one step, so that a build
/// that was interrupted, or ran twice at once, leaves nothing half made.
fn make_variant(backend: &Backend, variant: &Path) -> Result<(), String> {
    let parent = variant.parent().ok_or("no parent folder")?;
    let temporary = parent.join(format!("making-{}-{}", backend.variant, std::process::id()));
    drop(fs::remove_dir_all(&temporary));
    fs::create_dir_all(&temporary).map_err(|error| format!("{}: {error}", temporary.display()))?;
    let made = wheel::unpack(Path::new("../wheels"), backend.wheel, &temporary)
        .and_then(|()| compile::mlx_c(&temporary))
        .and_then(|()| wheel::remove_what_only_compiling_needs(&temporary));
    let placed = made.and_then(|()| match fs::rename(&temporary, variant) {
        Err(_) if variant.is_dir() => Ok(()),
        renamed => renamed.map_err(|error| format!("{}: {error}", variant.display())),
    });
    drop(fs::remove_dir_all(&temporary));
    placed
}

/// Changes whenever anything that goes into the library does.
fn inputs_key() -> Result<String, String> {
    let mut files = Vec::new();
    for input in INPUTS {
        list(Path::new(input), &mut files).map_err(|error| format!("{input}: {error}"))?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        fs::read(file)
            .map_err(|error| format!("{}: {error}", file.display()))?
            .hash(&mut hasher);
    }
    let version =
        fs::read_to_string("../MLX_VERSION").map_err(|error| format!("MLX_VERSION: {error}"))?;
    let target = std::env::var("TARGET").unwrap_or_default();
    Ok(format!(
        "{}-{target}-{:016x}",
        version.trim(),
        hasher.finish()
    ))
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            list(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// Cargo's target folder: shared by all profiles, so that the library is made once.
fn target_folder() -> Result<PathBuf, String> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let tagged = out
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(tagged.unwrap_or(&out).to_path_buf())
}

/// Runs a command; its output is part of the error.
fn run(command: &mut Command, missing: &str) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("could not run `{program}` ({error}): {missing}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let end = lines[lines.len().saturating_sub(6)..].join(" | ");
    Err(format!("`{program}` failed: {missing} (it said: {end})"))
}
