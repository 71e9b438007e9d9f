//! What the environment says, read here and nowhere else; flags beat it. Knows no command.

mod mpi;

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use mlxr::hub::{HubSettings, is_true};
use mlxr::{Error, Result};

pub(crate) use self::mpi::{Place, Process};

/// Everything that is read from outside the arguments.
#[derive(Debug)]
pub(crate) struct Settings {
    /// When the program began to run.
    pub(crate) started: Instant,
    /// The same by the clock on the wall.
    pub(crate) started_at: SystemTime,
    /// `MLXR_MODEL`: the model where no `-m` is given.
    pub(crate) model: Option<String>,
    /// `MLXR_API_KEY`: the key that clients must know.
    pub(crate) api_key: Option<String>,
    /// `MLXR_MLX_DIR`: MLX's library, or a folder with it.
    pub(crate) library: Option<PathBuf>,
    /// `MLXR_GRAPHS`: GPUs compute every step as a graph.
    pub(crate) graphs: bool,
    /// `MLX_RANK`: which of several processes that compute a model together this is.
    pub(crate) rank: Option<usize>,
    /// `MLX_HOSTFILE`: the file that says where they are.
    pub(crate) hosts: Option<PathBuf>,
    /// What mpirun says of this process, where it started it and others.
    pub(crate) mpi: Option<Process>,
    /// `MLXR_RANK_THREADS`: how many threads are this process's, one of several on this machine.
    pub(crate) threads: Option<usize>,
    /// `CUDA_VISIBLE_DEVICES`: which GPUs may be used.
    pub(crate) gpus: Option<String>,
    /// Whether `NO_COLOR` and `TERM` allow colours.
    pub(crate) colour: bool,
    /// Whether terminals understand more than plain lines: `TERM` is not `dumb`.
    pub(crate) terminal_is_capable: bool,
    /// Where `mlxr` keeps what it remembers between runs.
    pub(crate) data: Option<PathBuf>,
    /// Where `mlxr` keeps what it can compute again.
    pub(crate) cache: Option<PathBuf>,
    /// Which of [`Settings::VARIABLES`] are set.
    pub(crate) set: Vec<&'static str>,
    /// Which of the standard streams are terminals.
    pub(crate) terminals: Terminals,
}

/// Which of the standard streams are terminals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminals {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Settings {
    /// The variable with the name of the model.
    pub(crate) const MODEL: &str = "MLXR_MODEL";

    /// The variable by which a shell asks what could come next.
    pub(crate) const COMPLETE: &str = "MLXR_COMPLETE";

    /// How a process is told its threads by the one that starts several: not for users.
    pub(crate) const THREADS: &str = "MLXR_RANK_THREADS";

    /// The names of what is read and belongs to nobody else.
    pub(crate) const VARIABLES: [&str; 12] = [
        Self::MODEL,
        "MLXR_MLX_DIR",
        "MLXR_GRAPHS",
        "MLXR_API_KEY",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "NO_COLOR",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
    ];

    /// What is read, as a section of the help.
    pub(crate) const HELP: &str = "Environment (flags beat it):
  MLXR_MODEL                  the model where no -m is given
  MLXR_MLX_DIR                a folder with MLX's library
  MLXR_GRAPHS                 1 forbids the kernel that decodes on GPUs of NVIDIA
  MLXR_API_KEY                the key that clients of mlxr serve must know
  HF_HOME, HF_HUB_CACHE       where downloaded models are kept
  HF_TOKEN                    for private and gated repositories
  HF_ENDPOINT                 another hub
  HF_HUB_OFFLINE              1 forbids the network
  NO_COLOR                    1 forbids colours
  XDG_DATA_HOME               where the history of chats is kept, in mlxr/history
  XDG_CACHE_HOME              where tables of tokenizers, compiled kernels, and prompts with --cache, are kept, in mlxr";

    /// Where kernels that were compiled for a GPU are kept.
    pub(crate) fn compiled(&self) -> Option<PathBuf> {
        self.cache.as_ref().map(|folder| folder.join("kernels-v1"))
    }

    /// Where tables of tokenizers are kept.
    pub(crate) fn tables(&self) -> Option<PathBuf> {
        self.cache
            .as_ref()
            .map(|folder| folder.join("tokenizer-v1"))
    }

    /// Reads the environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    pub(crate) fn read() -> Self {
        let terminals = Terminals {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
        };
        Self::from_variables(|name| env::var_os(name), terminals)
    }

    /// How the hub is to be used. Read only when a model has a name, as it may lead to a file.
    ///
    /// # Errors
    /// Where the file with the token cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    pub(crate) fn hub() -> Result<HubSettings> {
        HubSettings::from_variables(|name| env::var(name).ok())
    }

    /// The file that this program is.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(crate) fn program() -> Result<PathBuf> {
        env::current_exe().map_err(Error::io("find", "the running program"))
    }

    /// Whether mpirun or the like started this process as one of several, and not this program itself.
    pub(crate) fn is_started_by_others(&self) -> bool {
        self.mpi.is_some() || self.rank.is_some() && self.threads.is_none()
    }

    /// What this program was started with, without its name.
    pub(crate) fn arguments() -> Vec<OsString> {
        env::args_os().skip(1).collect()
    }

    /// An empty variable counts as one that is not set.
    fn from_variables(get: impl Fn(&str) -> Option<OsString>, terminals: Terminals) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let folder = |name: &str| get(name).map(PathBuf::from);
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let terminal_is_capable = get("TERM").is_none_or(|term| term != "dumb");
        let data = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")));
        let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            library: folder("MLXR_MLX_DIR"),
            rank: text("MLX_RANK").and_then(|rank| rank.parse().ok()),
            hosts: folder("MLX_HOSTFILE"),
            mpi: Process::new(folder),
            threads: text(Self::THREADS).and_then(|threads| threads.parse().ok()),
            gpus: text("CUDA_VISIBLE_DEVICES"),
            graphs: text("MLXR_GRAPHS").is_some_and(|value| is_true(&value)),
            model: text(Self::MODEL),
            api_key: text("MLXR_API_KEY"),
            colour: get("NO_COLOR").is_none() && terminal_is_capable,
            terminal_is_capable,
            set: Self::VARIABLES
                .into_iter()
                .filter(|name| get(name).is_some())
                .collect(),
            data: data.map(|folder| folder.join("mlxr")),
            cache: cache.map(|folder| folder.join("mlxr")),
            terminals,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Settings, Terminals};

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let terminals = Terminals {
            stdin: false,
            stdout: false,
            stderr: true,
        };
        let get = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        };
        Settings::from_variables(get, terminals)
    }

    #[test]
    fn no_color_counts_only_when_it_is_not_empty() {
        assert!(settings(&[]).colour);
        assert!(settings(&[("NO_COLOR", "")]).colour);
        assert!(!settings(&[("NO_COLOR", "0")]).colour);
        assert!(!settings(&[("TERM", "dumb")]).colour);
        assert!(settings(&[("TERM", "xterm")]).colour);
    }

    #[test]
    fn graphs_are_asked_for_as_the_hub_s_variables_ask() {
        let graphs = |value: &str| settings(&[("MLXR_GRAPHS", value)]).graphs;
        assert!(graphs("1") && graphs("true") && !graphs("0") && !graphs(""));
    }

    #[test]
    fn the_data_folder_is_under_xdg_or_home() {
        let data = |variables: &[(&str, &str)]| settings(variables).data;
        assert_eq!(data(&[]), None);
        assert_eq!(
            data(&[("HOME", "/h")]).as_deref(),
            Some(Path::new("/h/.local/share/mlxr"))
        );
        let both = data(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]);
        assert_eq!(both.as_deref(), Some(Path::new("/d/mlxr")));
    }

    #[test]
    fn the_variables_are_those_of_the_help() {
        let lines = Settings::HELP.lines().filter(|line| line.starts_with(' '));
        let terms = lines.filter_map(|line| line.trim().split_once("  "));
        let names: Vec<&str> = terms.flat_map(|(terms, _)| terms.split(", ")).collect();
        assert_eq!(names, Settings::VARIABLES);
        let set = settings(&[("HF_TOKEN", "x"), ("HF_HOME", ""), ("PATH", "/bin")]).set;
        assert_eq!(set, ["HF_TOKEN"]);
    }

    #[test]
    fn an_empty_model_is_none() {
        assert_eq!(settings(&[("MLXR_MODEL", "")]).model, None);
        assert_eq!(
            settings(&[("MLXR_MODEL", "a/b")]).model.as_deref(),
            Some("a/b")
        );
    }
}
