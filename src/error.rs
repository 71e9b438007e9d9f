//! The one error type of the library: typed, sources kept, no advice (advice lives in `commands/ui`).

use std::any::Any;
use std::io;
use std::path::PathBuf;

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the library.
///
/// `Display` is one sentence without a full stop that says what failed and on which file or
/// field; what to do about it is added by whoever talks to the user. Exhaustive on purpose: the
/// tables of hints and exit codes must name every variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, written, mapped or listed.
    #[error("could not {action} {path}: {source}", path = path.display())]
    Io {
        /// The verb: "read", "write", "map" …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of several things that were asked for is wrong.
    #[error("{part}: {source}")]
    Part {
        /// Which: a file, a line of a file.
        part: String,
        /// What is wrong with it.
        source: Box<Self>,
    },
    /// Nothing in a cache goes by this name.
    #[error("nothing in the caches is called `{0}`")]
    NotCached(String),
    /// A model argument leads to nothing.
    #[error("no model `{name}`: {reason}")]
    ModelNotFound {
        /// The argument as given.
        name: String,
        /// Why it is not one.
        reason: String,
    },
    /// A model folder lacks a file that it must have.
    #[error("{folder} has no {file}", folder = folder.display())]
    MissingFile {
        /// The model folder.
        folder: PathBuf,
        /// The file's name.
        file: String,
    },
    /// A configuration file is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// `config.json` names an architecture that is not in the table of models.
    #[error("{path}: unknown architecture `{name}`", path = path.display())]
    UnknownArchitecture {
        /// The `config.json`.
        path: PathBuf,
        /// What it names.
        name: String,
        /// What is known.
        known: Vec<&'static str>,
    },
    /// A safetensors file or its index is damaged or lies about itself.
    #[error("{path}: {problem}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A GGUF file is damaged, or has something that is not read from GGUF.
    #[error("{path}: {problem}", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of kept prefixes is damaged.
    #[error("{path}: {problem}", path = path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The tensors of a checkpoint are not those of its architecture.
    #[error("{folder}: {problem}", folder = folder.display(), problem = name_list(missing, unexpected))]
    TensorNames {
        /// The model folder.
        folder: PathBuf,
        /// Names that the architecture needs and the files lack.
        missing: Vec<String>,
        /// Names that the files hold and the architecture does not know.
        unexpected: Vec<String>,
    },
    /// `tokenizer.json` or a file beside it is not usable.
    #[error("{path}: {problem}", path = path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The chat template is absent, broken, endless, or refused the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// Bytes that must be UTF-8 are not.
    #[error("{what} is not valid UTF-8 at byte {offset}")]
    InvalidUtf8 {
        /// "the prompt", "standard input", a file's name …
        what: String,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// A prompt that encodes to no token at all.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt does not leave room for one token.
    #[error("the prompt has {tokens} tokens and the context holds {limit}")]
    ContextOverflow {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens that the context holds, the answer included.
        limit: usize,
    },
    /// The state of a request does not fit into the memory that there is for it.
    #[error(
        "the prompt and its answer need {needs} of memory for their state, and {room} can be had{evicted}",
        needs = mib(*needs), room = mib(*room), evicted = evicted(*kept)
    )]
    Memory {
        /// Bytes that the state of all tokens takes.
        needs: usize,
        /// Bytes that there are for all sequences.
        room: usize,
        /// Of these, bytes that are taken by what is kept of ended sequences.
        kept: usize,
    },
    /// A model does not fit into the memory that there is for it.
    #[error("the weights take {weights} of memory, and {room} can be had", weights = mib(*weights), room = mib(*room))]
    WeightsMemory {
        /// Bytes of the weights.
        weights: usize,
        /// Bytes that there are for everything.
        room: usize,
    },
    /// A sampling parameter has a value that means nothing.
    #[error("{field}: {problem}")]
    Sampling {
        /// The parameter's name, as in [`crate::sample::Sampling`].
        field: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// Another part of a request means nothing or cannot be served.
    #[error("{field}: {problem}")]
    Request {
        /// The part's name, as in [`crate::engine::request::Request`].
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A measurement that was asked for cannot be made or compared.
    #[error("{test}: {problem}")]
    Benchmark {
        /// Its name, or the option that asks for it.
        test: String,
        /// Why not.
        problem: String,
    },
    /// A checkpoint cannot be packed, or not as it was asked for.
    #[error("{what}: {problem}")]
    Quantize {
        /// The file, folder or option.
        what: String,
        /// Why not.
        problem: String,
    },
    /// The hub could not be reached or answered with an error.
    #[error("{repo}: {problem}")]
    Hub {
        /// `org/name`, with `@revision` where one was asked for.
        repo: String,
        /// What happened, with the HTTP status where there was one.
        problem: String,
    },
    /// The hub knows no such repository or revision, or keeps it from us.
    #[error("{repo}: {problem}")]
    HubRefused {
        /// `org/name`, with `@revision` where one was asked for.
        repo: String,
        /// What the hub said.
        problem: String,
    },
    /// A server of models could not be reached or answered with an error.
    #[error("{url}: {problem}")]
    Server {
        /// Its address.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Offline was asked for and the files are not in the cache.
    #[error("{repo}: offline, and {missing} is not in the cache")]
    Offline {
        /// `org/name`.
        repo: String,
        /// The first missing file.
        missing: String,
    },
    /// MLX's library could not be loaded.
    #[error("could not load the MLX library")]
    MlxLibrary {
        /// Each place that was tried, and why it did not serve.
        tried: Vec<(String, String)>,
    },
    /// MLX refused or failed an operation.
    #[error("MLX: {0}")]
    Mlx(String),
    /// The model cannot be computed by so many processes together.
    #[error("ranks: {0}")]
    Ranks(String),
    /// Processes that were to compute together do not come together, or lost each other.
    #[error("ranks: they do not reach each other: {0}")]
    Apart(String),
    /// There is no GPU, which was asked for.
    #[error("no GPU: {0}")]
    NoGpu(String),
    /// The tokenizer knows a token that the model does not.
    #[error("token {id} is not among the model's {vocabulary}: its tokenizer does not fit it")]
    ForeignToken {
        /// The token's id.
        id: u32,
        /// Ids that the model knows.
        vocabulary: usize,
    },
    /// The model gave logits that are not numbers.
    #[error("the model produced logits that are not finite numbers")]
    NotFinite,
    /// The engine's thread has ended.
    #[error("the engine has stopped: {0}")]
    EngineStopped(String),
}

impl Error {
    /// Wraps an [`io::Error`] with what was being done and to which file.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Says in which part of what was asked for an error is, as [`Error::Part`].
    pub fn in_part(part: impl Into<String>) -> impl FnOnce(Self) -> Self {
        let part = part.into();
        move |source| Self::Part {
            part,
            source: Box::new(source),
        }
    }
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn evicted(kept: usize) -> String {
    if kept == 0 {
        return String::new();
    }
    format!(", {} of it by giving up prompts that are kept", mib(kept))
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("for an unknown reason")
}

/// How many names of one kind an error prints before it only counts.
const NAMES_SHOWN: usize = 5;

fn name_list(missing: &[String], unexpected: &[String]) -> String {
    let list = |kind: &str, names: &[String]| {
        let shown = names
            .iter()
            .take(NAMES_SHOWN)
            .map(String::as_str)
            .collect::<Vec<_>>();
        let rest = names.len().saturating_sub(NAMES_SHOWN);
        let more = if rest > 0 {
            format!(" and {rest} more")
        } else {
            String::new()
        };
        format!(
            "{} {kind} tensors ({}{more})",
            names.len(),
            shown.join(", ")
        )
    };
    [("missing", missing), ("unexpected", unexpected)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| list(kind, names))
        .collect::<Vec<_>>()
        .join(", ")
}
