//! Which shared library serves: where it is looked for, in which order, and why each did not do.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

use crate::bindings::Table;
use crate::error;

/// MLX's version as the headers know it; a library must agree in its first two numbers.
const MLX_VERSION: &str = include_str!("../../MLX_VERSION");

/// The file that holds mlx-c's functions.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libmlxc.dylib"
} else {
    "libmlxc.so"
};

/// One place that was tried, and why it did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// A path, or a bare library name.
    pub place: String,
    /// What the system or the check said.
    pub reason: String,
}

/// The library in use.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was found: a path, or a bare library name.
    pub place: String,
    /// The version of MLX behind it.
    pub version: String,
    /// What was tried before it.
    pub passed_over: Vec<Attempt>,
}

struct Current {
    table: Table,
    library: Library,
    loaded: Loaded,
}

static CURRENT: OnceLock<Current> = OnceLock::new();

/// Where to look for the library.
#[derive(Debug, Clone)]
pub struct Search {
    /// A library file, or a folder with one or with variant folders: nothing else is tried.
    pub explicit: Option<PathBuf>,
    /// `Some(true)`: variants that compute on a GPU alone. `Some(false)`: the CPU's variant first.
    pub gpu: Option<bool>,
    /// Folders with a library or with variant folders `mlx_*`, in order.
    pub roots: Vec<PathBuf>,
    /// What the variants are held against.
    pub machine: Machine,
}

/// What decides which variants can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// An NVIDIA driver is loaded.
    pub nvidia: bool,
    /// The first number of the version of macOS.
    pub macos: Option<u32>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            nvidia: Path::new("/dev/nvidiactl").exists(),
            macos: macos_version(),
        }
    }
}

impl Search {
    /// The usual search: the bare name (system, rpath, Homebrew), `../lib/mlxr` beside the
    /// executable, then what the build made ready.
    pub fn new(explicit: Option<PathBuf>, gpu: Option<bool>) -> Self {
        let beside = std::env::current_exe()
            .and_then(|path| path.canonicalize())
            .ok()
            .and_then(|path| Some(path.parent()?.parent()?.join("lib/mlxr")));
        let built = option_env!("MLXR_BUILT_LIBRARIES").map(PathBuf::from);
        Self {
            explicit,
            gpu,
            roots: beside.into_iter().chain(built).collect(),
            machine: Machine::here(),
        }
    }

    /// The places to try, in order: bare names or paths of library files.
    pub fn places(&self) -> Vec<PathBuf> {
        if let Some(path) = &self.explicit {
            let found = self.within(path);
            // Where there is none, the error names what was looked for.
            return match (found.is_empty(), path.is_dir()) {
                (false, _) => found,
                (true, true) => vec![path.join(LIBRARY)],
                (true, false) => vec![path.clone()],
            };
        }
        let mut places = vec![PathBuf::from(LIBRARY)];
        for root in &self.roots {
            places.extend(self.within(root));
        }
        places
    }

    /// The library of a folder itself, then those of its variant folders.
    fn within(&self, folder: &Path) -> Vec<PathBuf> {
        let own = Some(folder.join(LIBRARY)).filter(|own| own.exists());
        own.into_iter().chain(self.variants(folder)).collect()
    }

    /// The libraries of those variant folders of `root` that this machine can run, best first.
    fn variants(&self, root: &Path) -> Vec<PathBuf> {
        let mut variants: Vec<PathBuf> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| self.fits(&name_of(path)))
            .collect();
        // Reversed names put metal before cuda before cpu, and newer versions first.
        variants.sort_by_key(|path| std::cmp::Reverse(name_of(path)));
        if self.gpu == Some(false) {
            variants.sort_by_key(|path| name_of(path) != "mlx_cpu");
        }
        variants
            .into_iter()
            .map(|variant| variant.join(LIBRARY))
            .collect()
    }

    fn fits(&self, name: &str) -> bool {
        if name == "mlx_cpu" {
            self.gpu != Some(true)
        } else if name.starts_with("mlx_cuda") {
            self.machine.nvidia
        } else if let Some(version) = name.strip_prefix("mlx_metal") {
            // The loader does not hold a library against the system's version; v4 needs macOS 26.
            let version = version.trim_start_matches("_v").parse().unwrap_or(3);
            self.machine
                .macos
                .is_some_and(|system| version < 4 || system >= 26)
        } else {
            false
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(target_os = "macos")]
fn macos_version() -> Option<u32> {
    let output = std::process::Command::new("sw_vers")
        .arg("-productVersion")
        .output()
        .ok()?;
    String::from_utf8(output.stdout)
        .ok()?
        .split('.')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(not(target_os = "macos"))]
fn macos_version() -> Option<u32> {
    None
}

/// Loads the first library of `search` that serves. Later calls find it loaded and change nothing.
///
/// # Errors
/// Every place that was tried, and why it did not serve.
pub fn load(search: &Search) -> Result<&'static Loaded, Vec<Attempt>> {
    static LOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(current) = CURRENT.get() {
        return Ok(&current.loaded);
    }
    let mut attempts = Vec::new();
    for place in search.places() {
        match open(&place) {
            Ok(mut current) => {
                current.loaded.passed_over = attempts;
                return Ok(&CURRENT.get_or_init(|| current).loaded);
            }
            Err(reason) => attempts.push(Attempt {
                place: place.display().to_string(),
                reason,
            }),
        }
    }
    Err(attempts)
}

/// The library in use, if one is loaded.
pub fn loaded() -> Option<&'static Loaded> {
    CURRENT.get().map(|current| &current.loaded)
}

/// Opens one library and checks that it has everything.
fn open(place: &Path) -> Result<Current, String> {
    let library = open_library(place).map_err(|error| reason(&error))?;
    let table = Table::resolve(&library).map_err(|name| format!("it has no function {name}"))?;
    let version = table.version();
    let series = |version: &str| {
        version
            .trim()
            .split('.')
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    if series(&version) != series(MLX_VERSION) {
        return Err(format!(
            "it is MLX {version}; {} is needed",
            MLX_VERSION.trim()
        ));
    }
    table.keep_errors();
    let loaded = Loaded {
        place: place.display().to_string(),
        version,
        passed_over: Vec::new(),
    };
    Ok(Current {
        table,
        library,
        loaded,
    })
}

/// What the system said; libloading keeps it as the source of its own error.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(unix)]
fn open_library(place: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
    // SAFETY: MLX's initialisers only register devices and streams.
    // Global: libmlx loads backends that expect to find its symbols.
    unsafe { Library::open(Some(place), RTLD_LAZY | RTLD_GLOBAL).map(Into::into) }
}

#[cfg(not(unix))]
fn open_library(place: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: MLX's initialisers only register devices and streams.
    unsafe { Library::new(place) }
}

impl Table {
    fn version(&self) -> String {
        // SAFETY: a fresh string is filled, read and freed.
        unsafe {
            let mut string = (self.mlx_string_new)();
            (self.mlx_version)(&raw mut string);
            let version = CStr::from_ptr((self.mlx_string_data)(string))
                .to_string_lossy()
                .into_owned();
            (self.mlx_string_free)(string);
            version
        }
    }

    fn keep_errors(&self) {
        // SAFETY: the handler accepts any C string from any thread.
        unsafe { (self.mlx_set_error_handler)(Some(error::keep), std::ptr::null_mut(), None) }
    }
}

/// The functions of the library in use; loads one by the usual search where none is loaded.
///
/// # Panics
/// Where there is none. Programs call [`load`] first and handle its error.
pub(crate) fn table() -> &'static Table {
    if let Some(current) = CURRENT.get() {
        return &current.table;
    }
    match load(&Search::new(None, None)) {
        Ok(_) => CURRENT
            .get()
            .map_or_else(|| unreachable!("just loaded"), |current| &current.table),
        Err(attempts) => panic!("no MLX library: {}", Tried(&attempts)),
    }
}

/// A function that not every library has.
///
/// # Safety
/// `F` must be a function pointer type with the symbol's signature.
pub(crate) unsafe fn symbol<F: Copy>(name: &[u8]) -> Option<F> {
    table();
    // SAFETY: passed on to the caller.
    unsafe {
        CURRENT
            .get()?
            .library
            .get::<F>(name)
            .ok()
            .map(|symbol| *symbol)
    }
}

struct Tried<'a>(&'a [Attempt]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|attempt| write!(f, "{}: {}; ", attempt.place, attempt.reason))
    }
}

#[cfg(test)]
mod tests;
