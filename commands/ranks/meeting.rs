//! Where processes that compute together find each other, and what each is told in its environment.

use std::net::TcpListener;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

use mlxr::{Error, Result};
use serde_json::json;

use crate::settings::{Place, Settings};

/// Where the processes find each other.
pub(super) struct Meeting {
    /// A file that says where each process listens, as MLX's ring reads it.
    pub(super) hosts: PathBuf,
    /// Where NCCL's first process listens on this machine; whoever names the hosts says it himself.
    pub(super) port: Option<u16>,
    /// Removes that file in the end.
    #[expect(dead_code, reason = "held, not read")]
    file: Option<tempfile::TempPath>,
}

impl Meeting {
    /// On this machine, at ports that are free.
    ///
    /// # Errors
    /// Where there are none, or the file cannot be written.
    pub(super) fn new(count: usize) -> Result<Self> {
        let (addresses, port) = free(count)?;
        let file =
            tempfile::NamedTempFile::new().map_err(Error::io("make", "a file of addresses"))?;
        let file = file.into_temp_path();
        fs::write(&file, addresses).map_err(Error::io("write", &file))?;
        Ok(Self {
            hosts: file.to_path_buf(),
            port: Some(port),
            file: Some(file),
        })
    }

    /// Where a file says that was there before.
    pub(super) fn at(hosts: &Path, port: Option<u16>) -> Self {
        Self {
            hosts: hosts.to_path_buf(),
            port,
            file: None,
        }
    }

    /// Tells a process to come.
    pub(super) fn tell(&self, command: &mut Command, place: Place, settings: &Settings) {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let [local, on_host] = place.on_host;
        command
            .env("MLX_RANK", place.rank.to_string())
            .env("MLX_HOSTFILE", &self.hosts)
            .env(Settings::THREADS, (cores / on_host).max(1).to_string())
            .env("MLX_WORLD_SIZE", place.count.to_string())
            .env("CUDA_VISIBLE_DEVICES", gpu(settings, local));
        if let Some(port) = self.port {
            command
                .env("NCCL_HOST_IP", "127.0.0.1")
                .env("NCCL_PORT", port.to_string());
        }
    }
}

/// The GPU of a process: another one for each, of those that may be used.
fn gpu(settings: &Settings, local: usize) -> String {
    match &settings.gpus {
        // None is left for it where they are too few.
        Some(gpus) => gpus.split(',').nth(local).unwrap_or_default().to_owned(),
        None => local.to_string(),
    }
}

/// The addresses of so many processes on this machine, as MLX's ring reads them, and one more port.
///
/// # Errors
/// Where the system has none.
pub(super) fn free(count: usize) -> Result<(String, u16)> {
    let failed = || Error::io("find", "free ports");
    // Held until all are known, so that they differ.
    let listeners = (0..=count).map(|_| TcpListener::bind(("127.0.0.1", 0)));
    let listeners: Vec<TcpListener> = listeners
        .collect::<std::io::Result<_>>()
        .map_err(failed())?;
    let ports = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()));
    let mut ports: Vec<u16> = ports.collect::<std::io::Result<_>>().map_err(failed())?;
    let port = ports.pop().unwrap_or_default();
    let addresses = ports
        .iter()
        .map(|port| json!([format!("127.0.0.1:{port}")]));
    let addresses: serde_json::Value = addresses.collect();
    Ok((addresses.to_string(), port))
}
