//! Model names to local files, against a real HTTP server on loopback with faults.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod cache;
mod faults;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mlxr::Result;
use mlxr::files::ModelFiles;
use mlxr::hub::{HubSettings, resolve};
use mlxr::progress::{Progress, Silent, Unit};
use tempfile::TempDir;

use server::{Files, REPOSITORY, Request, Server, etag};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];
/// Where a cache keeps the one repository of the tests.
const FOLDER: &str = "models--org--tiny";

/// A valid safetensors file with one tensor of `length` bytes, each of value `fill`.
fn safetensors(length: usize, fill: u8) -> Vec<u8> {
    let header = format!(
        r#"{{"__metadata__":{{"format":"mlx"}},"w{fill}":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + length, fill);
    bytes
}

fn files(entries: &[(&str, &[u8])]) -> Files {
    entries
        .iter()
        .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
        .collect()
}

/// A model whose weights are one file of some 300 KB, with files beside it that nobody wants.
fn single() -> Files {
    files(&[
        ("config.json", br#"{"model_type":"qwen3"}"#),
        ("generation_config.json", b"{}"),
        ("tokenizer.json", br#"{"version":"1.0"}"#),
        ("tokenizer_config.json", br#"{"a":1}"#),
        ("special_tokens_map.json", br#"{"b":1}"#),
        ("chat_template.jinja", b"{{ messages }}"),
        (WEIGHTS, &safetensors(300_000, 1)),
        ("README.md", b"hello"),
        ("pytorch_model.bin", b"pickle"),
        ("model.gguf", b"GGUF"),
        ("original/config.json", b"{}"),
        ("consolidated.safetensors", b"twice the same"),
    ])
}

/// A model whose weights are two files and an index.
fn sharded() -> Files {
    let index = format!(
        r#"{{"weight_map":{{"w1":"{}","w2":"{}"}}}}"#,
        SHARDS[0], SHARDS[1]
    );
    files(&[
        ("config.json", b"{}"),
        ("tokenizer.json", br#"{"version":"1.0"}"#),
        (INDEX, index.as_bytes()),
        (SHARDS[0], &safetensors(1000, 1)),
        (SHARDS[1], &safetensors(2000, 2)),
    ])
}

fn settings(server: &Server, cache: &Path) -> HubSettings {
    HubSettings {
        cache: cache.to_path_buf(),
        token: Some("secret".to_owned()),
        endpoint: server.endpoint(),
        offline: false,
    }
}

fn offline(server: &Server, cache: &Path) -> HubSettings {
    HubSettings {
        offline: true,
        ..settings(server, cache)
    }
}

/// Resolves the repository of the tests and gives its folder.
fn fetch(server: &Server, cache: &TempDir) -> Result<PathBuf> {
    folder(resolve(
        REPOSITORY,
        &settings(server, cache.path()),
        &Silent,
    ))
}

fn folder(files: Result<ModelFiles>) -> Result<PathBuf> {
    files.map(|files| files.label().to_path_buf())
}

fn blob(cache: &TempDir, content: &[u8]) -> PathBuf {
    cache.path().join(FOLDER).join("blobs").join(etag(content))
}

fn partial(cache: &TempDir, content: &[u8]) -> PathBuf {
    blob(cache, content).with_file_name(format!("{}.mlxr.incomplete", etag(content)))
}

/// The ranges of the requests that asked for a file's bytes, where it is kept; empty for all of it.
fn bodies(requests: &[Request], path: &str) -> Vec<String> {
    requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains(path))
        .map(|request| request.range.clone().unwrap_or_default())
        .collect()
}

/// Keeps what it is told.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl Progress for Recorder {
    fn start(&self, name: &str, total: Option<u64>, unit: Unit) {
        self.add(format!("start {name} {total:?} {unit:?}"));
    }
    fn advance(&self, name: &str, done: u64) {
        self.add(format!("advance {name} {done}"));
    }
    fn finish(&self, name: &str) {
        self.add(format!("finish {name}"));
    }
    fn notice(&self, sentence: &str) {
        self.add(format!("notice {sentence}"));
    }
}
