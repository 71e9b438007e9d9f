//! What an error means to the user: the sentence, a hint, the exit code; how it came about is not known here.

use std::io::ErrorKind;
use std::path::Path;

use mlxr::{Error, hub};

use super::exit::Exit;

/// The path that stands for standard output in an [`Error::Io`].
pub(crate) const STANDARD_OUTPUT: &str = "standard output";

/// An error as it is shown.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) exit: Exit,
    /// What was tried or is known, one line each.
    pub(crate) details: Vec<String>,
    /// What to do about it.
    pub(crate) hint: Option<&'static str>,
}

impl Report {
    /// The one table of errors. There is no catch-all arm: a new error must be given its row.
    pub(crate) fn of(error: &Error) -> Self {
        let (exit, hint) = match error {
            Error::Io { path, source, .. } => return Self::of_io(path, source.kind()),
            Error::MlxLibrary { tried } => return Self::of_library(tried),
            Error::Part { source, .. } => return Self::of(source),
            Error::UnknownArchitecture { known, .. } => return Self::of_architecture(known),
            Error::NotCached(_) => (Exit::Missing, "`mlxr cache ls` lists what there is"),
            Error::ModelNotFound { .. } => (
                Exit::Missing,
                "name a folder, a repository of the hub (`org/name`), or nothing for the built-in model",
            ),
            Error::MissingFile { .. } => (
                Exit::Missing,
                "a model folder holds config.json, tokenizer.json and *.safetensors, as Hugging Face saves them",
            ),
            Error::Config { .. } | Error::Weights { .. } | Error::Tokenizer { .. } => {
                (Exit::Corrupt, "remove the file and download it again")
            }
            Error::Gguf { .. } => (
                Exit::Corrupt,
                "if the file is whole, take the model's safetensors, or a GGUF file of another type, such as F16 or Q8_0",
            ),
            Error::Kept { .. } => (Exit::Corrupt, "remove the file: it will be made again"),
            Error::TensorNames { .. } => (
                Exit::Corrupt,
                "the files belong to another architecture or are not complete",
            ),
            Error::ForeignToken { .. } => (
                Exit::Corrupt,
                "take tokenizer.json from where the weights come from",
            ),
            Error::Template(_) => (
                Exit::Corrupt,
                "`--raw` sends the prompt as it is, without the chat template",
            ),
            Error::InvalidUtf8 { .. } => (
                Exit::Usage,
                "convert the text first, for example with `iconv -t UTF-8`",
            ),
            Error::EmptyPrompt => (
                Exit::Usage,
                "give the prompt as words or on standard input: mlxr run \"Tell me a story\"",
            ),
            Error::Request { .. } => (Exit::Usage, "`--help` lists what is accepted"),
            Error::Benchmark { .. } => (
                Exit::Usage,
                "`mlxr bench --help` says what can be measured and compared",
            ),
            Error::Quantize { .. } => (
                Exit::Usage,
                "`mlxr quantize --help` says what can be asked for; `--explain` shows what it leads to",
            ),
            Error::ContextOverflow { .. } => (
                Exit::Context,
                "shorten the prompt, or raise `--ctx` if the model allows more",
            ),
            Error::Memory { .. } => (
                Exit::Context,
                "shorten the prompt, ask for fewer tokens with `-n`, or raise `--memory` if the machine has more",
            ),
            Error::WeightsMemory { .. } => (
                Exit::Context,
                "take a smaller model or one with fewer bits, or raise `--memory` if the machine has more",
            ),
            Error::Sampling { .. } => (Exit::Usage, "`mlxr run --help` lists what is accepted"),
            Error::Hub { .. } => (
                Exit::Network,
                "check the connection and HF_ENDPOINT, and run again: a download goes on where it stopped",
            ),
            Error::Server { .. } => (
                Exit::Network,
                "`mlxr serve` says which address it listens on; MLXR_API_KEY holds its key if it has one",
            ),
            Error::HubRefused { .. } => (
                Exit::Missing,
                "check the name; a private or gated repository needs a token in HF_TOKEN",
            ),
            Error::Offline { .. } => (Exit::Missing, "unset HF_HUB_OFFLINE to download it"),
            Error::Mlx(_) => (
                Exit::Internal,
                "`-v` says which library and device are in use",
            ),
            Error::Ranks(_) => (Exit::Usage, "take fewer `--ranks`, or none"),
            Error::Apart(_) => (Exit::Internal, "see whether all of them run"),
            Error::NoGpu(_) => (
                Exit::Missing,
                "`--device auto` takes the best device there is",
            ),
            Error::NotFinite => (
                Exit::Corrupt,
                "the weights hold NaN or infinite values: download them again",
            ),
            Error::EngineStopped(_) => return Self::of_fault(),
        };
        Self {
            exit,
            details: Vec::new(),
            hint: Some(hint),
        }
    }

    /// Of what only a mistake in the program can cause.
    pub(crate) fn of_fault() -> Self {
        Self {
            exit: Exit::Internal,
            details: Vec::new(),
            hint: Some("this is a fault of mlxr: please report the command and this message"),
        }
    }

    fn of_io(path: &Path, kind: ErrorKind) -> Self {
        let standard_output = path == Path::new(STANDARD_OUTPUT);
        let exit = match kind {
            ErrorKind::BrokenPipe if standard_output => Exit::BrokenPipe,
            _ => Exit::Missing,
        };
        let is_in_hub = hub::is_cached(path);
        let hint = match kind {
            _ if standard_output => None,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded if is_in_hub => {
                Some("free some space, or let HF_HOME name a folder on another disk")
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("free some space"),
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
                if is_in_hub =>
            {
                Some("check the permissions, or let HF_HOME name a folder that you may write to")
            }
            ErrorKind::PermissionDenied => Some("check the permissions"),
            _ => None,
        };
        Self {
            exit,
            details: Vec::new(),
            hint,
        }
    }

    fn of_library(tried: &[(String, String)]) -> Self {
        let needs_cuda = |why: &str| {
            let own = ["libcu", "libnccl", "libnvrtc"];
            own.iter().any(|library| why.starts_with(library)) && why.contains("open shared object")
        };
        let hint = if tried.iter().any(|(_, why)| needs_cuda(why)) {
            "install CUDA's own libraries (cuBLAS, cuDNN, cuFFT, NCCL, NVRTC), and let LD_LIBRARY_PATH name their folders"
        } else {
            "`cargo build` makes the library ready (for an NVIDIA GPU with `--features cuda13`); MLXR_MLX_DIR names another one"
        };
        Self {
            exit: Exit::Missing,
            details: tried
                .iter()
                .map(|(place, why)| format!("tried {place}: {why}"))
                .collect(),
            hint: Some(hint),
        }
    }

    fn of_architecture(known: &[&str]) -> Self {
        Self {
            exit: Exit::Corrupt,
            details: vec![format!("known architectures: {}", known.join(", "))],
            hint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Error, Report};

    #[test]
    fn the_hub_s_folder_is_named_only_where_it_is_to_blame() {
        let hint = |path: &str, kind: io::ErrorKind| {
            Report::of(&Error::io("write", path)(kind.into())).hint
        };
        let model = "/c/hub/models--org--name/blobs/1";
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            assert!(hint(model, kind).unwrap().contains("HF_HOME"));
            assert!(!hint("/tmp/small", kind).unwrap().contains("HF_HOME"));
        }
        assert_eq!(hint("/tmp/a/b", io::ErrorKind::NotADirectory), None);
    }

    #[test]
    fn what_is_missing_of_cuda_is_told_apart_from_a_missing_library() {
        let hint = |why: &str| {
            let tried = vec![("/lib/libmlxc.so".to_owned(), why.to_owned())];
            Report::of(&Error::MlxLibrary { tried }).hint.unwrap()
        };
        let absent = "cannot open shared object file: No such file or directory";
        for library in ["libnccl.so.2", "libcudnn.so.9", "libcublasLt.so.13"] {
            assert!(hint(&format!("{library}: {absent}")).contains("LD_LIBRARY_PATH"));
        }
        assert!(hint(&format!("libmlxc.so: {absent}")).contains("cargo build"));
    }
}
