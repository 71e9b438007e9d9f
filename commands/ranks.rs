//! Processes that compute one model together: they are started here, or by mpirun, or whoever launched this one did.
//! Knows no more of a model than where it is loaded.

mod meeting;
mod mpi;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use mlxr::{Error, Result};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::meeting::Meeting;
use crate::args::{ModelArgs, RanksArgs};
use crate::model;
use crate::settings::{Place, Settings};
use crate::ui::{Exit, Printer, printer};

/// How long the first process may take to fail by itself where another one did.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts the processes where this is none of them yet; where it is one of them and not the first, does its part of what
/// `model` says within `memory` bytes. Breaks with how that ended, or goes on where this process is the one that answers:
/// with the file that says where the others are, if there are some.
///
/// # Errors
/// Where that file is not named, the processes cannot be started, or one of them failed.
pub(crate) fn stand_by(
    together: RanksArgs,
    model: &ModelArgs,
    memory: Option<usize>,
    settings: &Settings,
    printer: Printer,
) -> Result<ControlFlow<Exit, Option<PathBuf>>> {
    let (hosts, rank) = match (together.ranks, settings.rank, &settings.mpi) {
        (None, ..) => return Ok(ControlFlow::Continue(None)),
        (Some(count), None, Some(process)) => match mpi::begin_again(count, process, settings)? {},
        (Some(count), None, None) => return launch(count, settings).map(ControlFlow::Break),
        (Some(_), Some(rank), _) => (settings.hosts.clone(), rank),
    };
    let hosts = hosts.ok_or_else(|| Error::Request {
        field: "MLX_HOSTFILE",
        problem: "it is to name a file with the addresses of all processes where MLX_RANK is set"
            .to_owned(),
    })?;
    if rank == 0 {
        return Ok(ControlFlow::Continue(Some(hosts)));
    }
    model::follow(model, memory, hosts, settings, printer)?;
    Ok(ControlFlow::Break(Exit::Success))
}

/// Starts this program with the same arguments so many times, and waits until all have ended: as the first of them ends.
fn launch(count: usize, settings: &Settings) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start", "threads"))?;
    runtime.block_on(all(count, settings))
}

async fn all(count: usize, settings: &Settings) -> Result<Exit> {
    let meeting = Meeting::new(count)?;
    // The first of them decides what Ctrl-C means.
    let mut interrupts =
        signal(SignalKind::interrupt()).map_err(Error::io("listen to", "signals"))?;
    let mut ends = signal(SignalKind::terminate()).map_err(Error::io("listen to", "signals"))?;
    let program = Settings::program()?;
    let mut running = JoinSet::new();
    for rank in 0..count {
        let mut command = Command::new(&program);
        meeting.tell(
            command.as_std_mut(),
            Place::on_one_host(rank, count),
            settings,
        );
        command.args(Settings::arguments()).kill_on_drop(true);
        if rank == 0 && !settings.terminals.stdin {
            // By way of this process: where it is killed, that is the end of what the first one reads, and then of all.
            command.stdin(Stdio::piped());
        }
        if rank > 0 {
            // Ctrl-C is the first one's to answer: it does not reach the others. What they say matters where the first one
            // says nothing of its own.
            command
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        }
        let mut child = command.spawn().map_err(Error::io("start", &program))?;
        if let Some(stdin) = child.stdin.take() {
            let stdin = stdin
                .into_owned_fd()
                .map_err(Error::io("start", &program))?;
            // Ends with the process: it may wait for ever for more.
            let copy = move || io::copy(&mut io::stdin(), &mut File::from(stdin));
            let copying = thread::Builder::new().name("input".to_owned()).spawn(copy);
            copying.map_err(Error::io("start", "a thread"))?;
        }
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
    if let Some(exit) = status.code().and_then(Exit::of_code) {
        // It has said why.
        return Ok(exit);
    }
    Err(Error::EngineStopped(format!(
        "process {rank} of {count} ended with {status}"
    )))
}
