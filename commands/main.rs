//! The binary: parse the arguments, read the settings, do the command, report how it ended.

mod args;
mod ask;
mod bench;
mod cache;
mod computed;
mod doctor;
#[cfg(test)]
mod generated;
mod interrupt;
mod model;
mod parse;
mod quantize;
mod ranks;
mod run;
mod runner;
mod serve;
mod settings;
mod tokenize;
mod ui;
mod wire;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use crate::args::{Cli, Command};
use crate::settings::Settings;
use crate::ui::Printer;

/// Activations are made and given up many times a second, a megabyte each: the system's allocator would have
/// the kernel clear such memory anew every time, a tenth of what evaluating a prompt takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A shell that asks what could come next, by the scripts in `completions`.
    CompleteEnv::with_factory(Cli::command)
        .var(Settings::COMPLETE)
        .complete();
    let settings = Settings::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return ui::printer::refusal(&refusal).into(),
    };
    let printer = Printer {
        verbosity: cli.verbosity(),
        live: settings.terminals.stderr && settings.terminal_is_capable,
        colour: settings.terminals.stderr && settings.colour,
    };
    printer.tell_panics();
    let outcome = catch_unwind(|| match cli.command {
        Command::Run(flags) => run::run(&flags, &settings, printer),
        Command::Serve(flags) => serve::run(&flags, &settings, printer),
        Command::Runner(flags) => runner::run(&flags, &settings, printer),
        Command::Tokenize(args) => tokenize::run(&args, &settings, printer),
        Command::Quantize(args) => quantize::run(&args, &settings, printer),
        Command::Cache(args) => cache::run(&args, &settings, printer),
        Command::Doctor(args) => doctor::run(&args, &settings, printer),
        Command::Bench(args) => bench::run(&args, &settings, printer),
    });
    match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => printer.error(&error),
        Err(panic) => printer.fault(&*panic),
    }
    .into()
}
