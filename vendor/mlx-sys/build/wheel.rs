//! MLX's own library: the wheel that the pins name, downloaded by pip and unpacked.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::run;

const PYTHON_NEEDED: &str = "MLX's library is downloaded with Python's pip: install python3 with pip (Debian: python3-pip), \
     or set MLXR_MLX_DIR to an existing installation";

/// Unpacks the wheel into `folder`: `mlx/lib`, `mlx/include` and the libraries that it brings.
pub(crate) fn unpack(pins: &Path, name: &str, folder: &Path) -> Result<(), String> {
    let download = folder.join("download");
    let requirements = pins.join(format!("{name}.txt"));
    let python = if cfg!(windows) { "python" } else { "python3" };
    run(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
            ])
            .args(["--only-binary=:all:", "--disable-pip-version-check"])
            .args(platform(name))
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(&download),
        PYTHON_NEEDED,
    )?;
    let wheel = fs::read_dir(&download)
        .map_err(|error| format!("{}: {error}", download.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| format!("pip downloaded no wheel for {name}"))?;
    run(
        Command::new(python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(folder),
        PYTHON_NEEDED,
    )?;
    fs::remove_dir_all(&download).map_err(|error| format!("{}: {error}", download.display()))
}

/// The macOS wheel is asked for by the oldest system that it runs on; Linux wheels by what runs.
fn platform(name: &str) -> &'static [&'static str] {
    if name == "metal" {
        &["--platform", "macosx_14_0_arm64"]
    } else {
        &[]
    }
}

/// MLX's own headers and build files are not needed at run time. Those of CUDA's libraries are: the
/// backend compiles kernels when it first needs them.
pub(crate) fn remove_what_only_compiling_needs(folder: &Path) -> Result<(), String> {
    for name in ["mlx/include/mlx", "mlx/share"] {
        let path = folder.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
