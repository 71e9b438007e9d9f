//! Which models are served, which of them are loaded, and for how long. Knows no HTTP.

mod names;
mod read;
mod slots;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mlxr::Sharing;
use mlxr::files::ModelFiles;
use mlxr::tokenizer::TokenizerOptions;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use super::child::Child;
use crate::ui::Printer;
use crate::wire::{Failure, Fault};

pub(super) use names::{Known, Names};
pub(super) use read::Read;
pub(super) use slots::{Lease, Residence, Slots};

/// A model that is loaded.
pub(super) struct Served {
    pub(super) name: String,
    pub(super) child: Arc<Child>,
    pub(super) read: Arc<Read>,
}

impl Served {
    /// What it may take of the device's memory, in bytes.
    fn memory(&self) -> usize {
        self.child.facts().memory_bytes
    }
}

/// Gives a command that runs the model in these files.
pub(super) type RunnerCommand = Box<dyn Fn(&ModelFiles, Sharing) -> Command + Send + Sync>;

/// How runners are started.
pub(super) struct Launcher {
    pub(super) names: Names,
    pub(super) command: RunnerCommand,
    pub(super) printer: Printer,
    /// Where tables of tokenizers are kept.
    pub(super) tables: Option<PathBuf>,
}

impl Launcher {
    /// Loads a model beside others: its tokenizer here, its weights in a process of its own. A model that was loaded
    /// `before` need not be read again.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    async fn load(
        &self,
        known: Known,
        sharing: Sharing,
        before: Option<Arc<Read>>,
    ) -> Result<Served, Failure> {
        let name = known.name.clone();
        self.printer.detail(format_args!("{name}: loading"));
        let files = blocking(move || known.files()).await??;
        let child = Child::start(&name, (self.command)(&files, sharing), self.printer);
        let options = TokenizerOptions {
            tables: self.tables.clone(),
            ..TokenizerOptions::default()
        };
        let read = blocking(move || Read::new(files, &options, before));
        let (child, read) = tokio::join!(child, read);
        let read = read?.map_err(|error| Failure::of_server(&error))?;
        let child = Arc::new(child?);
        let facts = child.facts();
        self.printer.detail(format_args!(
            "{name}: loaded in {:.2} s, {} on {}",
            facts.load.as_secs_f64(),
            facts.architecture,
            facts.device
        ));
        Ok(Served { name, child, read })
    }
}

/// How long a runner may take for its present step when it is to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does what may take long without keeping others waiting.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = spawn_blocking(work).await;
    done.map_err(|_| {
        Failure::new(
            Fault::Internal,
            "this is a fault of mlxr: a thread panicked",
        )
    })
}
