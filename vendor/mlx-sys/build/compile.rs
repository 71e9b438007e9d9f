//! mlx-c, the C interface to MLX: found in the published crate that carries it, compiled here.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::run;

const COMPILER_NEEDED: &str = "mlx-c is compiled here: install a C++20 compiler (GCC 12, Clang 15 or newer; Debian: g++, \
     macOS: xcode-select --install), or name one in CXX, or set MLXR_MLX_DIR to an existing installation";

/// Compiles mlx-c and our own native parts against the wheel in `folder` into one library there.
pub(crate) fn mlx_c(folder: &Path) -> Result<(), String> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    check_compiler(&compiler, folder)?;
    let root = source()?;
    let mut sources = cpp_files(&root.join("mlx/c"))?;
    sources.extend(cpp_files(Path::new("native"))?);
    let objects = folder.join("objects");
    fs::create_dir_all(&objects).map_err(|error| format!("{}: {error}", objects.display()))?;
    let mut waiting: VecDeque<PathBuf> = sources.into();
    let mut linked = Vec::new();
    let mut running: Vec<(PathBuf, Child)> = Vec::new();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < jobs
            && let Some(file) = waiting.pop_front()
        {
            let stem = file.file_stem().unwrap_or_default();
            let object = objects.join(stem).with_extension("o");
            let child = flags(Command::new(&compiler), &root, folder)
                .arg("-c")
                .arg(&file)
                .arg("-o")
                .arg(&object)
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| {
                    format!("could not run the compiler ({error}): {COMPILER_NEEDED}")
                })?;
            linked.push(object);
            running.push((file, child));
        }
        let (file, child) = running.remove(0);
        let output = child
            .wait_with_output()
            .map_err(|error| format!("the compiler: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said
                .lines()
                .find(|line| line.contains("error"))
                .unwrap_or("it gave no reason");
            return Err(format!("could not compile {}: {first}", file.display()));
        }
    }
    link(&compiler, &linked, folder)?;
    fs::remove_dir_all(&objects).map_err(|error| format!("{}: {error}", objects.display()))
}

fn flags(mut command: Command, root: &Path, folder: &Path) -> Command {
    command.args([
        "-std=c++20",
        "-O2",
        "-fPIC",
        "-w",
        "-include",
        "native/format_compat.h",
    ]);
    command
        .arg("-I")
        .arg(root)
        .arg("-I")
        .arg(folder.join("mlx/include"));
    command
}

fn link(compiler: &std::ffi::OsStr, objects: &[PathBuf], folder: &Path) -> Result<(), String> {
    let macos = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
    let (name, origin) = if macos {
        ("libmlxc.dylib", "@loader_path")
    } else {
        ("libmlxc.so", "$ORIGIN")
    };
    let mut command = Command::new(compiler);
    command
        .arg("-shared")
        .arg("-o")
        .arg(folder.join(name))
        .args(objects);
    command.arg("-L").arg(folder.join("mlx/lib")).arg("-lmlx");
    command.arg(format!("-Wl,-rpath,{origin}/mlx/lib"));
    if !macos {
        // libmlx's own needs (cuBLAS, say) are met where it runs, not here.
        command.arg("-Wl,--allow-shlib-undefined");
    }
    run(&mut command, COMPILER_NEEDED).map(drop)
}

/// A compiler that is absent or too old is named as such, not by the first error in MLX's headers.
fn check_compiler(compiler: &std::ffi::OsStr, folder: &Path) -> Result<(), String> {
    let probe = folder.join("probe.cpp");
    let program = "#include <concepts>\n#include <version>\nstatic_assert(std::integral<int>);\n";
    fs::write(&probe, program).map_err(|error| format!("{}: {error}", probe.display()))?;
    let checked = run(
        Command::new(compiler)
            .args(["-std=c++20", "-fsyntax-only"])
            .arg(&probe),
        COMPILER_NEEDED,
    );
    fs::remove_file(&probe).map_err(|error| format!("{}: {error}", probe.display()))?;
    checked.map(drop)
}

fn cpp_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "cpp"))
        .collect();
    files.sort();
    Ok(files)
}

/// The folder of mlx-c inside the published crate `mlx-sys`, which cargo downloads and checks
/// against the lock file.
fn source() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = run(
        Command::new(cargo)
            .args([
                "metadata",
                "--locked",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(
                fs::canonicalize("../mlx-c/Cargo.toml")
                    .map_err(|error| format!("../mlx-c: {error}"))?,
            ),
        "the sources of mlx-c are downloaded by cargo",
    )?;
    let text = String::from_utf8_lossy(&metadata);
    // One field is wanted; a JSON library would be the build's only dependency.
    let version = fs::read_to_string("../MLX_C_VERSION")
        .map_err(|error| format!("MLX_C_VERSION: {error}"))?;
    let ending = format!("mlx-sys-{}/Cargo.toml", version.trim());
    let manifest = text
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .find(|path| path.replace("\\\\", "/").ends_with(&ending))
        .ok_or_else(|| format!("cargo named no {ending}"))?;
    let folder = Path::new(manifest)
        .parent()
        .ok_or("a manifest has a folder")?;
    Ok(folder.join("src/mlx-c"))
}
