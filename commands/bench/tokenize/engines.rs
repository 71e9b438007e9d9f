//! The tokenizers that are measured and compared, and what loading them takes of memory.

use std::sync::Arc;

use mlxr::files::ModelFiles;
use mlxr::memory::resident;
use mlxr::tokenizer::{Choice, Tokenizer, TokenizerOptions};
use mlxr::{Error, Result};

use crate::args::MeasuredEngine;
use crate::ui::printer::Printer;

/// One of them.
pub(super) struct Engine {
    pub(super) name: &'static str,
    files: ModelFiles,
    choice: Choice,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// Bytes that the process grew by; `None` where the system does not say.
    pub(super) memory: Option<usize>,
}

/// Who is measured, and with whom ids are compared.
pub(super) struct Engines {
    /// At least one.
    pub(super) measured: Vec<Engine>,
    /// Where ours is measured and the reference is not.
    other: Option<Tokenizer>,
}

/// Loaded as the first time, without tables that an earlier process kept.
fn built(choice: Choice) -> TokenizerOptions {
    TokenizerOptions {
        choice,
        tables: None,
    }
}

impl Engine {
    fn new(files: &ModelFiles, name: &'static str, choice: Choice) -> Result<Self> {
        let before = resident();
        let tokenizer = Tokenizer::load_with(files, &built(choice))?;
        Ok(Self {
            name,
            memory: (before > 0).then(|| resident().saturating_sub(before)),
            files: files.clone(),
            choice,
            tokenizer: Arc::new(tokenizer),
        })
    }

    /// Why the vocabulary is left to the reference, where that was not asked for.
    pub(super) fn unasked_reason(&self) -> Option<&'static str> {
        match self.choice {
            Choice::Fastest => self.tokenizer.reference_reason(),
            Choice::Reference => None,
        }
    }

    /// One that has seen no text.
    pub(super) fn fresh(&self) -> Result<Tokenizer> {
        Tokenizer::load_with(&self.files, &built(self.choice))
    }
}

impl Engines {
    /// Loads those that are asked for; all, where none is named. Ours comes first.
    ///
    /// # Errors
    /// [`Error::Benchmark`] where ours is asked for by name and the vocabulary is left to the reference; what loading
    /// says.
    pub(super) fn load(
        files: &ModelFiles,
        named: &[MeasuredEngine],
        printer: Printer,
    ) -> Result<Self> {
        let wanted = |engine| named.is_empty() || named.contains(&engine);
        let mut measured = Vec::new();
        let mut reference = wanted(MeasuredEngine::Reference);
        if wanted(MeasuredEngine::Mlxr) {
            let ours = Engine::new(files, "mlxr", Choice::Fastest)?;
            match ours.tokenizer.reference_reason() {
                None => measured.push(ours),
                Some(why) if named.is_empty() => {
                    printer.talk(format_args!(
                        "the vocabulary is left to the reference, which alone is measured: {why}"
                    ));
                    measured.push(Engine {
                        name: "reference",
                        ..ours
                    });
                    reference = false;
                }
                Some(why) => {
                    return Err(Error::Benchmark {
                        test: "--engine mlxr".to_owned(),
                        problem: format!("the vocabulary is left to the reference: {why}"),
                    });
                }
            }
        }
        let ours = measured.iter().any(|engine| engine.name == "mlxr");
        if reference {
            measured.push(Engine::new(files, "reference", Choice::Reference)?);
        }
        let other = (ours && !reference)
            .then(|| Tokenizer::load_with(files, &built(Choice::Reference)))
            .transpose()?;
        Ok(Self { measured, other })
    }

    /// Ours and the reference, unless the reference is alone.
    pub(super) fn pair(&self) -> Option<(&Tokenizer, &Tokenizer)> {
        let ours = &self.measured.first()?.tokenizer;
        let reference = self.measured.get(1).map(|engine| &*engine.tokenizer);
        Some((ours, reference.or(self.other.as_ref())?))
    }
}
