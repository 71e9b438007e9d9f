//! The arguments of `serve`, and of the processes that it starts.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{BudgetArgs, Device, KeptArgs, ModelArgs, RanksArgs, after_help, names, numbers};

/// A machine has no memory for more models, nor for what more requests bring.
const MOST_LOADED: usize = 1024;
const MOST_REQUESTS: usize = 1_000_000;

/// Serve models over HTTP: OpenAI's, Anthropic's and Ollama's interfaces
///
/// Each model runs in a process of its own. With -m, those models are served, and the first is loaded at once; a
/// request that names none means that one. Without, all models in the hub's cache and the built-in one are
/// served, each loaded when it is first asked for.
///
/// Requests are computed together: they join and leave between steps. What a request asks and this server does
/// not do is refused by name.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct Serve {
    /// Folder or `org/name[@revision]` of the hub (repeatable) [env: `MLXR_MODEL`] [default: all in the cache]
    #[arg(short, long, help_heading = "Model", add = ArgValueCompleter::new(names::models))]
    pub(crate) model: Vec<String>,
    /// Where to compute; `auto` is the GPU where there is one
    #[arg(long, value_enum, default_value_t, help_heading = "Model")]
    pub(crate) device: Device,
    /// Threads that compute on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = numbers::threads, help_heading = "Model")]
    pub(crate) threads: Option<usize>,
    /// Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights
    #[arg(long, help_heading = "Model")]
    pub(crate) cpu_exact: bool,
    #[command(flatten)]
    pub(crate) together: RanksArgs,
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// Models that may be loaded at a time; what their weights leave of --memory is divided [default: as many as
    /// are named]
    #[arg(long, value_name = "N", value_parser = loaded, help_heading = "Model")]
    pub(crate) loaded: Option<usize>,
    /// How long a model stays loaded that nobody uses, as `30m`; `0` or `forever`
    #[arg(
        long,
        value_name = "TIME",
        default_value = "forever",
        help_heading = "Model"
    )]
    pub(crate) keep_alive: KeepAlive,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", help_heading = "Server")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(short, long, default_value_t = 8080, help_heading = "Server")]
    pub(crate) port: u16,
    /// Answer only those who know this key (repeatable) [env: `MLXR_API_KEY`]
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    pub(crate) api_key: Vec<String>,
    /// Let pages of this origin ask, as `https://example.com`; `*` is all (repeatable)
    #[arg(long, value_name = "ORIGIN", value_parser = origin, help_heading = "Server")]
    pub(crate) cors: Vec<String>,
    /// Leave out what a request asks and is not supported, and say so in a header, instead of refusing it
    #[arg(long, help_heading = "Server")]
    pub(crate) lenient: bool,
    /// Requests that are answered or wait at a time; further ones are sent away
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = queue, help_heading = "Server")]
    pub(crate) queue: usize,
    /// How large the body of a request may be
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "32MiB",
        help_heading = "Server"
    )]
    pub(crate) max_body: ByteSize,
}

/// Answer requests on standard input: what `serve` starts for each model
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Runner {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) together: RanksArgs,
    #[command(flatten)]
    pub(crate) kept: KeptArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    /// Bytes that other models may take of the same memory
    #[arg(long, value_name = "BYTES", default_value_t)]
    pub(crate) taken: usize,
    /// Models that are to share what is left
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) coming: usize,
}

fn loaded(text: &str) -> Result<usize, String> {
    numbers::between(text, 1, MOST_LOADED)
}

fn queue(text: &str) -> Result<usize, String> {
    numbers::between(text, 1, MOST_REQUESTS)
}

/// A browser's name of where a page comes from: a scheme, a host and perhaps a port.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*']));
    if text == "*" || (is_origin && text.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Ok(text.to_owned());
    }
    Err("an origin is written as `https://example.com`, without a path, or `*` for all".to_owned())
}

/// How long something stays that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepAlive(pub(crate) Duration);

impl FromStr for KeepAlive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self(Duration::ZERO)),
            "forever" | "-1" => Ok(Self(Duration::MAX)),
            _ => match humantime::parse_duration(text) {
                Ok(time) => Ok(Self(time)),
                Err(error) => Err(format!("{error} (as `30m`, `0` or `forever`)")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{KeepAlive, origin};

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<KeepAlive>().map(|KeepAlive(time)| time);
        assert_eq!(read("30m"), Ok(Duration::from_mins(30)));
        assert_eq!(read("1h 30s"), Ok(Duration::from_secs(3630)));
        assert_eq!(read("0"), Ok(Duration::ZERO));
        assert_eq!(read("forever"), Ok(Duration::MAX));
        assert!(read("soon").unwrap_err().contains("`30m`"));
    }

    #[test]
    fn origins_have_no_path_and_no_holes() {
        for good in [
            "*",
            "https://example.com",
            "http://localhost:3000",
            "app://a",
        ] {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "example.com",
            "https://",
            "https://a/",
            "https://*.a",
            "http://a b",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
