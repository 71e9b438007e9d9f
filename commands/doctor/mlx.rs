//! Which library of MLX is found and how, and which devices it has.

use std::fmt;
use std::path::Path;

use mlxr::mlx::{self, Device, DeviceChoice, DeviceProperties, Library};
use mlxr::{Error, Result};
use serde::Serialize;

use super::check::{self, Check};
use crate::settings::Settings;
use crate::ui::report::Report;

/// What was found of MLX.
#[derive(Debug, Default, Serialize)]
pub(super) struct Mlx {
    version: Option<String>,
    /// The library's file, or its bare name where the system found it.
    place: Option<String>,
    found: Option<Found>,
    /// What was tried before, or in vain.
    passed_over: Vec<Attempt>,
    backends: Vec<&'static str>,
    devices: Vec<Properties>,
    /// What `--device auto` takes.
    auto: Option<String>,
    decode_kernel: Option<DecodeKernel>,
}

/// How the library was found, in the order of the search.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Found {
    /// `MLXR_MLX_DIR` names it.
    Named,
    /// The system's loader finds it by its name.
    System,
    /// It lies beside the program.
    Program,
    /// The build made it.
    Build,
}

/// A place that did not serve.
#[derive(Debug, Serialize)]
struct Attempt {
    place: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Properties {
    kind: String,
    name: Option<String>,
    memory_bytes: Option<usize>,
}

/// Whether steps of decoding are one kernel.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum DecodeKernel {
    Available,
    /// By `MLXR_GRAPHS`.
    Forbidden,
    /// On this device.
    Unavailable,
}

impl Mlx {
    /// Loads the library as a command that computes does.
    pub(super) fn look(settings: &Settings, checks: &mut Vec<Check>) -> Self {
        let mut found = Self::default();
        if let Err(error) = found.fill(settings, checks) {
            if let Error::MlxLibrary { tried } = &error {
                found.pass_over(tried);
            }
            let reasons = found.passed_over.iter();
            let reasons: Vec<String> = reasons.map(ToString::to_string).collect();
            let said = if reasons.is_empty() {
                error.to_string()
            } else {
                format!("{error}: {}", reasons.join("; "))
            };
            let hint = Report::of(&error).hint.unwrap_or_default();
            checks.push(Check::problem("MLX", said, hint));
        }
        found
    }

    /// Whether there is a device to compute with.
    pub(super) fn is_loaded(&self) -> bool {
        self.auto.is_some()
    }

    fn fill(&mut self, settings: &Settings, checks: &mut Vec<Check>) -> Result<()> {
        let device = mlx::open(DeviceChoice::Auto, settings.library.as_deref())?;
        if let Some(library) = mlx::library()? {
            self.library(library, settings, checks);
        }
        for properties in mlx::devices()? {
            self.device(properties, checks);
        }
        self.auto = Some(device.to_string());
        checks.push(if device == Device::Cpu && mlx::has_nvidia_driver() {
            Check::note(
                "auto",
                "cpu, though there is a driver of NVIDIA",
                "build with `--features cuda13` (or `cuda12`), and let the loader find cuBLAS, cuDNN, NCCL and NVRTC",
            )
        } else {
            Check::ok("auto", device.to_string())
        });
        self.decode_kernel(settings, checks)
    }

    fn library(&mut self, library: Library, settings: &Settings, checks: &mut Vec<Check>) {
        self.pass_over(&library.passed_over);
        for attempt in &self.passed_over {
            // That the system knows none by its bare name is how it mostly is.
            if !is_bare(&attempt.place) {
                checks.push(Check::note(
                    "MLX passed over",
                    attempt.to_string(),
                    "make what it lacks known to the system's loader, or name another one by MLXR_MLX_DIR",
                ));
            }
        }
        let found = Found::of(&library.place, settings);
        let Library {
            place,
            version,
            backends,
            ..
        } = library;
        let how = match found {
            Found::Named => "named by MLXR_MLX_DIR",
            Found::System => "where the system looks for libraries",
            Found::Program => "beside the program",
            Found::Build => "made by the build",
        };
        checks.push(Check::ok("MLX", format!("{version}, {how}: {place}")));
        checks.push(Check::ok("backends", backends.join(", ")));
        self.version = Some(version);
        self.place = Some(place);
        self.found = Some(found);
        self.backends = backends;
    }

    fn pass_over(&mut self, tried: &[(String, String)]) {
        let tried = tried.iter().map(|(place, reason)| Attempt {
            place: place.clone(),
            reason: reason.clone(),
        });
        self.passed_over = tried.collect();
    }

    fn device(&mut self, properties: DeviceProperties, checks: &mut Vec<Check>) {
        let DeviceProperties {
            device,
            name,
            memory,
        } = properties;
        let memory_said = memory.map(|bytes| check::size(bytes as u64));
        let said: Vec<String> = name.iter().cloned().chain(memory_said).collect();
        checks.push(Check::ok(format!("device {device}"), said.join(", ")));
        self.devices.push(Properties {
            kind: device.to_string(),
            name,
            memory_bytes: memory,
        });
    }

    fn decode_kernel(&mut self, settings: &Settings, checks: &mut Vec<Check>) -> Result<()> {
        let name = "decode kernel";
        let (kernel, check) = if !mlx::computes_with_cuda()? {
            let said = "none: only GPUs of NVIDIA have it";
            (DecodeKernel::Unavailable, Check::ok(name, said))
        } else if settings.graphs {
            let check = Check::note(
                name,
                "forbidden by MLXR_GRAPHS",
                "unset MLXR_GRAPHS to decode faster",
            );
            (DecodeKernel::Forbidden, check)
        } else {
            // A small kernel tells whether kernels can be compiled.
            match mlx::multiprocessors() {
                Ok(count) => {
                    let said = format!("available, {count} multiprocessors");
                    (DecodeKernel::Available, Check::ok(name, said))
                }
                Err(error) => {
                    let check = Check::note(
                        name,
                        format!("it does not work: {error}"),
                        "let the system's loader find NVRTC and CUDA's headers; until then decoding is slower",
                    );
                    (DecodeKernel::Unavailable, check)
                }
            }
        };
        self.decode_kernel = Some(kernel);
        checks.push(check);
        Ok(())
    }
}

impl fmt::Display for Attempt {
    /// The system's reasons mostly begin with the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, reason } = self;
        if reason.starts_with(place) {
            f.write_str(reason)
        } else {
            write!(f, "{place}: {reason}")
        }
    }
}

impl Found {
    fn of(place: &str, settings: &Settings) -> Self {
        let beside = Settings::program().and_then(|program| {
            let program = program.canonicalize();
            program.map_err(Error::io("find", "the running program"))
        });
        let beside = beside.ok().and_then(|program| {
            let folder = program.parent()?.parent()?;
            Some(folder.join("lib/mlxr"))
        });
        if settings.library.is_some() {
            Self::Named
        } else if is_bare(place) {
            Self::System
        } else if beside.is_some_and(|folder| Path::new(place).starts_with(folder)) {
            Self::Program
        } else {
            Self::Build
        }
    }
}

/// Whether it is a name without a folder.
fn is_bare(place: &str) -> bool {
    Path::new(place).components().count() == 1
}
