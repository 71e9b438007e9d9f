//! A text that models read, and how far the chances that they give each next token are from those of the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mlxr::cache::SequenceCache;
use mlxr::config::Config;
use mlxr::files::ModelFiles;
use mlxr::mlx::{self, Device, DeviceChoice};
use mlxr::models::{self, LoadedModel, Precision, Source};
use mlxr::ops::batch::Batch;
use mlxr::ops::tensor::Tensor;
use mlxr::progress::{Progress, Unit};
use mlxr::quantize::{Checkpoint, Plan};
use mlxr::tokenizer::{Bos, Tokenizer};
use mlxr::weights::Weights;
use mlxr::{Error, Result, Sharing};

use super::statistics::{Token, compare};
use crate::settings::Settings;
use crate::ui::progress::Drawn;

/// The text where none is named.
const SAMPLE: &str = include_str!("sample.txt");

/// Tokens that are read in one go: each stretch begins anew.
const STRETCH: usize = 512;

/// Rows of logits at a time: a row may have a quarter of a million numbers.
const ROWS: usize = 32;

const READING: &str = "comparing answers";

/// The device that models are loaded to, and the memory that there is for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    device: Device,
    room: usize,
}

/// Whether what loads the source and a packed model has the memory for both, of `memory` where that is said.
///
/// # Errors
/// [`Error::Quantize`] with the option `what` where it has not, or where the source cannot be loaded at all.
pub(super) fn place(
    what: &str,
    checkpoint: &Checkpoint,
    plan: &Plan,
    memory: Option<usize>,
    settings: &Settings,
) -> Result<Place> {
    let refuse = |problem: String| Error::Quantize {
        what: what.to_owned(),
        problem,
    };
    if !checkpoint.is_dense() {
        return Err(refuse("the source is packed, and is not loaded to be compared with: unpack it with `--override '*=keep'` first, and quantize what comes of it".to_owned()));
    }
    let device = mlx::open(DeviceChoice::Auto, settings.library.as_deref())?;
    let room = Sharing::default().room(memory, device)?;
    let both = checkpoint.bytes() + plan.bytes();
    if both > room {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        return Err(refuse(format!(
            "it loads the source and the packed model, which take {} MiB of memory, and {} MiB can be had: leave it out, or measure on a larger machine",
            mib(both),
            mib(room)
        )));
    }
    Ok(Place { device, room })
}

impl Place {
    fn precision(self) -> Precision {
        match self.device {
            Device::Cpu => Precision::Float32,
            Device::Gpu => Precision::Stored,
        }
    }

    /// Loads a model.
    pub(super) fn load(self, files: &ModelFiles, progress: &Drawn) -> Result<LoadedModel> {
        let source = Source::Files(files.clone());
        models::load(&source, self.precision(), self.room, None, progress)
    }

    /// Loads a model of which a part, in a folder of its own, was made anew.
    pub(super) fn load_over(
        self,
        base: &ModelFiles,
        over: &ModelFiles,
        hidden: &BTreeSet<&str>,
        progress: &Drawn,
    ) -> Result<LoadedModel> {
        let weights = Weights::open_over(base, over, hidden)?;
        let config = Config::read(over)?;
        models::load_from(
            &config,
            &weights,
            self.precision(),
            self.room,
            None,
            progress,
        )
    }
}

/// A text as a model reads it.
pub(super) struct Text {
    ids: Vec<i32>,
    bos: Option<i32>,
}

impl Text {
    /// Reads a text, or the sample.
    ///
    /// # Errors
    /// What opening the text and the tokenizer says, and [`Error::Quantize`] where no token follows another.
    pub(super) fn read(path: Option<&Path>, files: &ModelFiles) -> Result<Self> {
        let text = match path {
            Some(path) => {
                let bytes = fs::read(path).map_err(Error::io("read", path))?;
                String::from_utf8(bytes).map_err(|error| Error::InvalidUtf8 {
                    what: path.display().to_string(),
                    offset: error.utf8_error().valid_up_to(),
                })?
            }
            None => SAMPLE.to_owned(),
        };
        let tokenizer = Tokenizer::load(files)?;
        let ids = tokenizer.encode(&text, Bos::Never)?;
        if ids.len() < 2 {
            return Err(Error::Quantize {
                what: format!("--report={}", path.unwrap_or(Path::new("")).display()),
                problem: "the text has fewer than two tokens".to_owned(),
            });
        }
        Ok(Self {
            ids: ids.iter().map(|&id| id as i32).collect(),
            bos: tokenizer.bos_id().map(|id| id as i32),
        })
    }
}

/// What the source makes of a text.
pub(super) struct Reading<'a> {
    source: &'a LoadedModel,
    stretches: Vec<(Vec<i32>, Tensor)>,
    progress: Arc<Drawn>,
}

impl<'a> Reading<'a> {
    /// Lets the source read a text, of which `most` tokens count.
    pub(super) fn new(
        source: &'a LoadedModel,
        text: &Text,
        most: usize,
        progress: &Arc<Drawn>,
    ) -> Result<Self> {
        let (ids, bos) = (&text.ids[..text.ids.len().min(most)], text.bos);
        let each = source.model.context().min(STRETCH) - usize::from(bos.is_some());
        let stretches = ids.chunks(each).map(|stretch| {
            let input: Vec<i32> = bos.into_iter().chain(stretch.iter().copied()).collect();
            let hidden = hidden(source, &input)?;
            Ok((input, hidden))
        });
        Ok(Self {
            source,
            stretches: stretches.collect::<Result<_>>()?,
            progress: Arc::clone(progress),
        })
    }

    /// What both models say of each token but the first of each stretch.
    pub(super) fn compare(&self, packed: &LoadedModel) -> Result<Vec<Token>> {
        let vocabulary = self.source.model.vocabulary();
        let all: usize = self.stretches.iter().map(|(input, _)| input.len()).sum();
        self.progress.start(READING, Some(all as u64), Unit::Tokens);
        let (mut tokens, mut done) = (Vec::new(), 0);
        for (input, source_hidden) in &self.stretches {
            let packed_hidden = hidden(packed, input)?;
            let known = input.len() - 1;
            for first in (0..known).step_by(ROWS) {
                let rows = first..known.min(first + ROWS);
                let logits = |model: &LoadedModel, hidden: &Tensor| {
                    model
                        .model
                        .logits(&hidden.rows(rows.clone())?)?
                        .into_numbers()
                };
                let source = logits(self.source, source_hidden)?;
                let packed = logits(packed, &packed_hidden)?;
                let both = source
                    .chunks_exact(vocabulary)
                    .zip(packed.chunks_exact(vocabulary));
                for ((source, packed), &next) in both.zip(&input[first + 1..]) {
                    tokens.push(compare(source, packed, next as usize).ok_or(Error::NotFinite)?);
                }
            }
            done += input.len();
            self.progress.advance(READING, done as u64);
        }
        self.progress.finish(READING);
        Ok(tokens)
    }
}

/// The hidden states after all layers.
fn hidden(loaded: &LoadedModel, input: &[i32]) -> Result<Tensor> {
    let mut cache: SequenceCache = loaded.model.new_cache();
    let batch = Batch::new(&[(0, 0, input)])?;
    loaded.model.forward(&batch, &mut [&mut cache])
}
