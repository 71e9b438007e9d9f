//! What becomes of each tensor of a checkpoint, and why, before any of it is read.

mod assign;
mod choose;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, has_codes};
use super::settings::{DType, QuantizeSettings};
use super::source::{Kept, SourceTensor};
use super::strided::Strided;
use crate::config::{PackingConfig, PackingMode};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::kernels::quantize::Scales;
use crate::models::roles::Role;
use crate::models::spec;
use crate::weights::digest;
use assign::{Planner, is_raw};

/// A tensor that is written.
#[derive(Debug)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its layer, if it is in one.
    pub layer: Option<usize>,
    /// Its shape as numbers.
    pub shape: Vec<usize>,
    /// How it is packed, if it is.
    pub packing: Option<PackingConfig>,
    /// The type of its numbers, or of its scales and biases, as safetensors files name it.
    pub dtype: String,
    /// Why it is stored so.
    pub reason: String,
    /// Somebody said how, for its role or its name.
    pub asked: bool,
    /// Tensors of the source, by name, of which each has as many matrices.
    pub(super) pieces: Vec<String>,
    pub(super) view: Strided,
    /// How the numbers of the packed tensor come about.
    pub(super) codes: Codes,
    /// The type in which 1 is added to each number, if it is.
    pub(super) raised: Option<DType>,
}

/// Where the codes of a packed tensor come from.
#[derive(Debug, Clone)]
pub(super) enum Codes {
    /// They are made of the numbers.
    Made(Scales),
    /// They are those of the source, as they are: of each piece.
    Source(Vec<Kept>),
}

/// What becomes of a checkpoint.
#[derive(Debug)]
pub struct Plan {
    /// What is written, in order.
    pub tensors: Vec<Planned>,
    /// What is not, and why.
    pub dropped: Vec<(String, String)>,
    /// How most matrices are packed.
    pub base: PackingConfig,
    pub(super) sources: Arc<BTreeMap<String, SourceTensor>>,
    pub(super) files: ModelFiles,
    pub(super) digest: String,
}

impl Planned {
    /// Numbers in it.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// Names of the source's tensors that it is made of.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The name without `.weight`, as configurations say it.
    pub fn prefix(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }

    /// Bytes that it takes, scales and biases included.
    pub fn bytes(&self) -> usize {
        super::layout::parts(self)
            .iter()
            .map(|part| part.bytes)
            .sum()
    }

    /// The same if it were packed so.
    pub fn bytes_as(&self, packing: &PackingConfig) -> usize {
        let scales = DType::of(&self.dtype).map_or(0, |dtype| dtype.0.size());
        let scale = if packing.mode == PackingMode::Affine {
            2 * scales
        } else {
            1
        };
        self.numbers() * packing.bits / 8 + self.numbers() / packing.group_size * scale
    }
}

impl Plan {
    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(Planned::bytes).sum()
    }

    /// Bytes of all tensors that are read.
    pub fn source_bytes(&self) -> usize {
        let pieces = self.tensors.iter().flat_map(|tensor| &tensor.pieces);
        let mut names: Vec<&String> = pieces.collect();
        names.sort();
        names.dedup();
        names
            .iter()
            .map(|name| self.sources[*name].bytes().len())
            .sum()
    }

    /// Numbers in all tensors.
    pub fn numbers(&self) -> usize {
        self.tensors.iter().map(Planned::numbers).sum()
    }

    /// Only those tensors of these names: a part of a checkpoint.
    #[must_use]
    pub fn only(mut self, names: &BTreeSet<&str>) -> Self {
        self.tensors
            .retain(|tensor| names.contains(tensor.name.as_str()));
        self
    }

    /// Bits that a number takes, scales and biases included.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes() as f64 / self.numbers().max(1) as f64
    }
}

/// Decides what becomes of each tensor of a checkpoint.
///
/// # Errors
/// [`Error::Quantize`] where what is asked for cannot be; [`Error::Weights`] where tensors do not fit each other.
pub fn plan(checkpoint: &Checkpoint, settings: &QuantizeSettings) -> Result<Plan> {
    let Checkpoint {
        files,
        config,
        sources,
        dropped,
    } = checkpoint;
    let keeps = settings.keep_codes && has_codes(sources);
    let mut planner = Planner {
        settings,
        config,
        tensors: spec(config)?.tensors,
        layers: config.size("num_hidden_layers")?,
        is_raw: is_raw(sources),
        keeps,
        planned: BTreeMap::new(),
        dropped: dropped.clone(),
    };
    planner.all(sources)?;
    let Planner {
        planned, dropped, ..
    } = planner;
    let mut planned: Vec<Planned> = planned.into_values().map(|(planned, _)| planned).collect();
    planned.sort_by_key(|tensor| tensor.layer.map_or(0, |layer| layer + 1));
    check(&planned, settings, files.label())?;
    let base = if keeps { most(&planned) } else { None };
    let mut plan = Plan {
        tensors: planned,
        dropped,
        base: base.unwrap_or_else(|| settings.base.clone()),
        sources: Arc::clone(sources),
        files: files.clone(),
        digest: String::new(),
    };
    let choices: Vec<String> = plan
        .tensors
        .iter()
        .map(|tensor| {
            let Planned {
                name,
                shape,
                packing,
                dtype,
                codes,
                ..
            } = tensor;
            // These words are in digests that are stored.
            let codes = match codes {
                Codes::Made(Scales::Mlx) => "Mlx",
                Codes::Made(Scales::Fitted) => "Fitted",
                Codes::Source(_) => "Source",
            };
            format!("{name} {shape:?} {packing:?} {dtype} {codes}")
        })
        .collect();
    plan.digest = digest(files, &choices.join("\n"))?;
    Ok(plan)
}

/// The packing of most numbers.
fn most(planned: &[Planned]) -> Option<PackingConfig> {
    let mut counts: BTreeMap<String, (usize, &PackingConfig)> = BTreeMap::new();
    for tensor in planned {
        if let Some(packing) = &tensor.packing {
            let count = counts.entry(packing.to_string()).or_insert((0, packing));
            count.0 += tensor.numbers();
        }
    }
    let most = counts.values().max_by_key(|(count, _)| *count);
    most.map(|(_, packing)| (*packing).clone())
}

/// Whether everything that was asked for met a tensor.
fn check(planned: &[Planned], settings: &QuantizeSettings, label: &Path) -> Result<()> {
    let none = planned.iter().all(|tensor| tensor.packing.is_none());
    if none && settings.overrides.is_empty() {
        return Err(Error::Quantize {
            what: label.display().to_string(),
            problem: format!("no tensor of it can be packed as {}", settings.base),
        });
    }
    for item in &settings.overrides {
        if !planned.iter().any(|tensor| item.fits(tensor.prefix())) {
            return Err(Error::Quantize {
                what: format!("--override {}", item.pattern),
                problem: "no tensor has a name that fits".to_owned(),
            });
        }
    }
    let has = |kind: fn(Role) -> bool| planned.iter().any(|tensor| kind(tensor.role));
    let refuse = |what: &str, problem: &str| {
        Err(Error::Quantize {
            what: what.to_owned(),
            problem: problem.to_owned(),
        })
    };
    if settings.expert.is_some() && !has(|role| matches!(role, Role::RoutedExpert(_))) {
        return refuse("--expert", "the model has no experts behind a router");
    }
    if settings.head.is_some() && !has(|role| role == Role::Head) {
        return refuse(
            "--head",
            "the embedding is the head of this model: --embed is for both",
        );
    }
    Ok(())
}
