//! `mlxr serve`: models behind HTTP, each in a process of its own. Knows no dialect.

mod admission;
mod answering;
mod anthropic;
mod asking;
mod child;
mod dialect;
mod embedding;
mod fields;
mod form;
mod ids;
mod infill;
mod listen;
mod meters;
mod models;
mod ollama;
mod openai;
mod page;
mod question;
mod requests;
mod routes;
mod state;
mod stream;
mod thinking;
mod tokens;
mod words;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use mlxr::files::ModelFiles;
use mlxr::{Error, Result};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Serve;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::Printer;
use crate::ui::progress::Drawn;
use asking::Server;
use listen::Listening;
use models::{Launcher, Names, RunnerCommand, Slots};

/// Threads that talk to clients. The processors belong to the runners.
const TALKERS: usize = 2;

/// How long those who are being answered may go on when the server is to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until it is told to end.
pub(crate) fn run(flags: &Serve, settings: &Settings, printer: Printer) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TALKERS)
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(Error::io("start", "threads"))?;
    runtime.block_on(serve(flags, settings, printer))
}

async fn serve(flags: &Serve, settings: &Settings, printer: Printer) -> Result<Exit> {
    if flags.together.ranks.is_some() && (settings.rank.is_some() || settings.mpi.is_some()) {
        return Err(Error::Request {
            field: "--ranks",
            problem: "a server starts its processes itself: start it without mpirun, and unset \
                      MLX_RANK"
                .to_owned(),
        });
    }
    let mut arguments = flags.model.clone();
    if arguments.is_empty() {
        arguments.extend(settings.model.clone());
    }
    let names = Names::new(&arguments, &Drawn::new(printer))?;
    let loaded = flags.loaded.unwrap_or(arguments.len().max(1));
    let launcher = Launcher {
        names,
        command: command(flags)?,
        printer,
        tables: settings.tables(),
    };
    let slots = Slots::new(launcher, loaded, flags.queue, flags.keep_alive.0);
    let (mut interrupts, mut ends) = (
        listen_to(SignalKind::interrupt())?,
        listen_to(SignalKind::terminate())?,
    );

    let address = format!("{} port {}", flags.host, flags.port);
    let listener = TcpListener::bind((flags.host.as_str(), flags.port)).await;
    let listener = listener.map_err(Error::io("listen on", &address))?;
    let local = listener.local_addr();
    let local: SocketAddr = local.map_err(Error::io("listen on", &address))?;
    let server = Arc::new(Server::new(
        flags,
        settings,
        local.ip().is_loopback(),
        Arc::clone(&slots),
        printer,
    ));
    printer.talk(format_args!("listening on http://{local}"));

    tokio::spawn(Arc::clone(&slots).expire());
    if !arguments.is_empty() {
        tokio::spawn(warm(Arc::clone(&slots)));
    }
    let listening = Listening::begin(listener, routes::all(&server));
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = ends.recv() => {}
    }
    printer.talk("ending: answers under way have 10 seconds");
    let ended = async {
        tokio::join!(listening.end(GRACE), slots.close(GRACE));
    };
    tokio::select! {
        () = ended => {}
        _ = interrupts.recv() => {}
        _ = ends.recv() => {}
    }
    Ok(Exit::Success)
}

/// Loads the first model before anybody asks for it.
async fn warm(slots: Arc<Slots>) {
    // Slots say why where it cannot be.
    drop(slots.lease(None).await);
}

/// How a runner is started: this program with the arguments that concern it.
fn command(flags: &Serve) -> Result<RunnerCommand> {
    let program = Settings::program()?;
    let device = flags.device.to_possible_value();
    let device = device.map_or_else(String::new, |device| device.get_name().to_owned());
    let mut arguments: Vec<OsString> = vec!["runner".into(), "--device".into(), device.into()];
    if let Some(threads) = flags.threads {
        arguments.extend(["--threads".into(), threads.to_string().into()]);
    }
    if flags.cpu_exact {
        arguments.push("--cpu-exact".into());
    }
    if let Some(memory) = flags.budget.bytes() {
        arguments.extend(["--memory".into(), format!("{memory}B").into()]);
    }
    if let Some(ranks) = flags.together.ranks {
        arguments.extend(["--ranks".into(), ranks.to_string().into()]);
    }
    if let Some(cache) = &flags.kept.cache {
        let mut argument = OsString::from("--cache=");
        argument.push(cache);
        arguments.push(argument);
        let size = format!("{}B", flags.kept.cache_size.as_u64());
        arguments.extend(["--cache-size".into(), size.into()]);
    }
    Ok(Box::new(move |files, sharing| {
        let mut command = Command::new(&program);
        command.args(&arguments).env_remove(Settings::MODEL);
        command.arg("--taken").arg(sharing.taken.to_string());
        command.arg("--coming").arg(sharing.coming.to_string());
        if let ModelFiles::Folder(folder) = files {
            command.arg("--model").arg(folder);
        }
        command
    }))
}

fn listen_to(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(Error::io("listen to", "signals"))
}
