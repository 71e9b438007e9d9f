//! Processes that compute one model together: they are started here, or whoever launched this one did. Knows no model.

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use mlxr::{Error, Result};
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::settings::Settings;
use crate::ui::{Exit, printer};

/// How long the first process may take to fail by itself where another one did.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts this program with the same arguments so many times, and waits until all have ended: as the first of them ends.
///
/// # Errors
/// Where they cannot be started, or another one than the first failed.
pub(crate) fn launch(count: usize) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start", "threads"))?;
    runtime.block_on(all(count))
}

async fn all(count: usize) -> Result<Exit> {
    let hosts = hosts(count)?;
    // The first of them decides what Ctrl-C means.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(Error::io("listen to", "signals"))?;
    let mut ends = signal(SignalKind::terminate()).map_err(Error::io("listen to", "signals"))?;
    let program = Settings::program()?;
    let arguments: Vec<OsString> = Settings::arguments();
    let mut running = JoinSet::new();
    for rank in 0..count {
        let mut command = Command::new(&program);
        command
            .args(&arguments)
            .env("MLX_RANK", rank.to_string())
            .env("MLX_HOSTFILE", hosts.path())
            .kill_on_drop(true);
        if rank > 0 {
            // Ctrl-C is the first one's to answer: it does not reach the others. What they say matters where the first one
            // says nothing of its own.
            command
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        }
        let child = command.spawn().map_err(Error::io("start", &program))?;
        running.spawn(async move { (rank, child.wait_with_output().await) });
    }
    let mut exit = Exit::Internal;
    let mut failed = None;
    loop {
        let patience = if failed.is_some() {
            PATIENCE
        } else {
            Duration::MAX
        };
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            _ = interrupts.recv() => continue,
            _ = ends.recv() => return Ok(Exit::Interrupted),
            () = sleep(patience) => break,
        };
        let Some(Ok((rank, output))) = ended else {
            return Ok(exit);
        };
        let Output { status, stderr, .. } = output.map_err(Error::io("wait for", &program))?;
        if rank == 0 {
            exit = status
                .code()
                .and_then(Exit::of_code)
                .unwrap_or(Exit::Internal);
            if !status.success() {
                // It has said why, and the others wait for it in vain.
                return Ok(exit);
            }
        } else if !status.success() && failed.is_none() {
            failed = Some((rank, status, stderr));
        }
    }
    let Some((rank, status, stderr)) = failed else {
        return Ok(exit);
    };
    for line in String::from_utf8_lossy(&stderr).lines() {
        printer::say(line.strip_prefix("mlxr: ").unwrap_or(line));
    }
    Err(Error::EngineStopped(format!(
        "process {rank} of {count} ended with {status}"
    )))
}

/// A file that says where each process listens, as MLX's ring reads it.
fn hosts(count: usize) -> Result<tempfile::NamedTempFile> {
    let failed = || Error::io("find", "free ports");
    // Held until all are known, so that they differ.
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)));
    let listeners: Vec<TcpListener> = listeners
        .collect::<std::io::Result<_>>()
        .map_err(failed())?;
    let addresses = listeners.iter().map(|listener| {
        let address = listener.local_addr()?;
        Ok(json!([address.to_string()]))
    });
    let addresses: Vec<serde_json::Value> = addresses
        .collect::<std::io::Result<_>>()
        .map_err(failed())?;
    let file = tempfile::NamedTempFile::new().map_err(Error::io("make", "a file of addresses"))?;
    std::fs::write(file.path(), json!(addresses).to_string())
        .map_err(Error::io("write", file.path()))?;
    Ok(file)
}
