//! What becomes of each tensor of a checkpoint, and why, before any of it is read.

use std::collections::BTreeMap;

use super::recipe::{Subject, is_matrix};
use super::settings::{DType, QuantizeSettings};
use super::source::{Encoding, SourceTensor, pair};
use super::strided::Strided;
use crate::config::{Config, PackingConfig};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::models::roles::{Layout, Numbers, Role, Tensors, View};
use crate::models::{spec, text_prefixes};
use crate::weights::{Weights, digest};

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
    /// Tensors of the source, by name, of which each has as many matrices.
    pub(super) pieces: Vec<String>,
    pub(super) view: Strided,
    /// 1 is added to each number.
    pub(super) raised: bool,
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
    pub(super) sources: BTreeMap<String, SourceTensor>,
    pub(super) files: ModelFiles,
    pub(super) digest: String,
}

impl Planned {
    /// Numbers in it.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
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

    /// Bits that a number takes, scales and biases included.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes() as f64 / self.numbers().max(1) as f64
    }
}

/// Decides what becomes of each tensor of a checkpoint.
///
/// # Errors
/// [`Error::UnknownArchitecture`], whatever is wrong with the files, and [`Error::Quantize`] where it is packed
/// already or what is asked for cannot be.
pub fn plan(files: &ModelFiles, settings: &QuantizeSettings) -> Result<Plan> {
    let config = Config::read(files)?;
    let tensors = spec(&config)?.tensors;
    if config.is_packed()? {
        return Err(Error::Quantize {
            what: config.path().display().to_string(),
            problem: "the model is packed already, and packing it again would lose more: take the checkpoint that it was made from".to_owned(),
        });
    }
    let sources = pair(Weights::open(files)?.stored(), &config)?;
    let mut planner = Planner {
        settings,
        config: &config,
        tensors,
        layers: config.size("num_hidden_layers")?,
        is_raw: is_raw(&sources),
        planned: BTreeMap::new(),
        dropped: Vec::new(),
    };
    planner.all(&sources)?;
    let Planner {
        planned, dropped, ..
    } = planner;
    let mut planned: Vec<Planned> = planned.into_values().map(|(planned, _)| planned).collect();
    planned.sort_by_key(|tensor| tensor.layer.map_or(0, |layer| layer + 1));
    let none = planned.iter().all(|tensor| tensor.packing.is_none());
    if none && settings.overrides.is_empty() {
        return Err(Error::Quantize {
            what: files.label().display().to_string(),
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
    let mut plan = Plan {
        tensors: planned,
        dropped,
        base: settings.base.clone(),
        sources,
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
                ..
            } = tensor;
            format!("{name} {shape:?} {packing:?} {dtype}")
        })
        .collect();
    plan.digest = digest(files, &choices.join("\n"))?;
    Ok(plan)
}

/// Whether the checkpoint was not saved by mlx-lm, which turns convolutions around and adds 1 to norms.
fn is_raw(sources: &BTreeMap<String, SourceTensor>) -> bool {
    let mut convolutions = sources
        .iter()
        .filter(|(name, _)| name.ends_with(".linear_attn.conv1d.weight"));
    convolutions
        .next()
        .is_some_and(|(_, tensor)| tensor.stored.shape.last() != Some(&1))
}

/// What a tensor of the source becomes a part of.
struct Wanted {
    name: &'static str,
    role: Role,
    view: View,
    /// It is one of a stack.
    stacked: bool,
}

struct Planner<'a> {
    settings: &'a QuantizeSettings,
    config: &'a Config,
    tensors: Tensors,
    layers: usize,
    is_raw: bool,
    /// With the places in their stacks that were found.
    planned: BTreeMap<String, (Planned, BTreeMap<usize, String>)>,
    dropped: Vec<(String, String)>,
}

impl Planner<'_> {
    fn all(&mut self, sources: &BTreeMap<String, SourceTensor>) -> Result<()> {
        let (text, head) = text_prefixes(|name| sources.contains_key(name));
        let tied = self.config.flag_or("tie_word_embeddings", false)?;
        let saved = self.tensors.saved_under.unwrap_or((text, head));
        for (name, source) in sources {
            let unused = self
                .tensors
                .unused
                .iter()
                .any(|prefix| name.starts_with(prefix));
            let own = match name
                .strip_prefix(head)
                .and_then(|rest| rest.strip_prefix('.'))
            {
                Some(_) if tied => {
                    self.drop(name, "the embedding is the head");
                    continue;
                }
                Some(rest) => Some(format!("lm_head.{rest}")),
                None => name.strip_prefix(text).map(str::to_owned),
            };
            if unused {
                self.drop(name, "nothing is computed with it");
                continue;
            }
            let Some((rule, numbers)) = own.as_ref().and_then(|own| self.tensors.rule(own)) else {
                self.unknown(name, source);
                continue;
            };
            let wanted = |name, role, view| Wanted {
                name,
                role,
                view,
                stacked: false,
            };
            let all = match rule.layout {
                Layout::Dropped(reason) => {
                    self.drop(name, reason);
                    continue;
                }
                Layout::Stacked(stack) => vec![Wanted {
                    stacked: true,
                    ..wanted(stack, rule.role, View::Whole)
                }],
                Layout::Split(made) => made
                    .iter()
                    .map(|made| wanted(made.name, made.role, made.view))
                    .collect(),
                Layout::Whole | Layout::Raised | Layout::Taps | Layout::Exact => {
                    vec![wanted(rule.name, rule.role, View::Whole)]
                }
            };
            for one in all {
                self.add(name, source, rule.layout, &one, &numbers, saved)?;
            }
        }
        self.complete_stacks(sources)
    }

    fn drop(&mut self, name: &str, reason: &str) {
        self.dropped.push((name.to_owned(), reason.to_owned()));
    }

    /// A tensor that no table knows stays as it is.
    fn unknown(&mut self, name: &str, source: &SourceTensor) {
        let shape = source.stored.shape.clone();
        let dtype = source.dtype().map_or_else(
            || source.stored.dtype.clone(),
            |dtype| dtype.name().to_owned(),
        );
        let planned = Planned {
            name: name.to_owned(),
            role: Role::Unknown,
            layer: None,
            view: Strided::whole(&shape),
            shape,
            packing: None,
            dtype,
            reason: "no table knows it".to_owned(),
            pieces: vec![name.to_owned()],
            raised: false,
        };
        self.planned
            .insert(name.to_owned(), (planned, BTreeMap::new()));
    }

    fn add(
        &mut self,
        name: &str,
        source: &SourceTensor,
        layout: Layout,
        wanted: &Wanted,
        numbers: &Numbers,
        (text, head): (&str, &str),
    ) -> Result<()> {
        let filled = numbers.fill(wanted.name);
        let full = match filled.strip_prefix("lm_head.") {
            Some(rest) => format!("{head}.{rest}"),
            None => format!("{text}{filled}"),
        };
        let refuse = |problem: String| Error::Weights {
            path: source.stored.path.clone(),
            problem,
        };
        if wanted.stacked
            && let Some((planned, places)) = self.planned.get_mut(&full)
        {
            let place = numbers.place().unwrap_or(0);
            if planned.shape != source.stored.shape
                || places.insert(place, name.to_owned()).is_some()
            {
                return Err(refuse(format!(
                    "tensor {name} does not fit into {full}, of which it is a part"
                )));
            }
            return Ok(());
        }
        let size = |field: &str| self.config.optional_size(field).ok().flatten();
        let shape = &source.stored.shape;
        let (view, mut made) = Strided::of(wanted.view, shape, size).ok_or_else(|| {
            refuse(format!(
                "tensor {name} has shape {shape:?}, which is not that of its kind"
            ))
        })?;
        if let (Layout::Taps, &[channels, one, taps]) = (layout, made.as_slice())
            && self.is_raw
            && one == 1
        {
            made = vec![channels, taps, 1];
        }
        let exact = matches!(layout, Layout::Exact);
        let stored = source.dtype();
        let dtype = match (stored, self.settings.dtype) {
            (Some(_), Some(asked)) if !exact => Some(asked),
            (stored, _) => stored,
        };
        let planned = Planned {
            name: full.clone(),
            role: wanted.role,
            layer: numbers
                .layer()
                .filter(|_| wanted.name.starts_with("layers.")),
            shape: made,
            packing: None,
            dtype: dtype.map_or_else(
                || source.stored.dtype.clone(),
                |dtype| dtype.name().to_owned(),
            ),
            reason: if exact {
                "it is computed with as it is"
            } else {
                ""
            }
            .to_owned(),
            pieces: vec![name.to_owned()],
            view,
            raised: self.is_raw && matches!(layout, Layout::Raised),
        };
        let mut places = BTreeMap::new();
        if wanted.stacked {
            places.insert(numbers.place().unwrap_or(0), name.to_owned());
        }
        if self
            .planned
            .insert(full.clone(), (planned, places))
            .is_some()
        {
            return Err(refuse(format!(
                "two tensors become {full}, one of them {name}"
            )));
        }
        Ok(())
    }

    /// Puts stacks together, and decides how everything is packed.
    fn complete_stacks(&mut self, sources: &BTreeMap<String, SourceTensor>) -> Result<()> {
        let mut all = std::mem::take(&mut self.planned);
        for (planned, places) in all.values_mut() {
            if let Some((&last, _)) = places.last_key_value() {
                let first = &sources[&planned.pieces[0]];
                if let Some(missing) = (0..=last).find(|place| !places.contains_key(place)) {
                    return Err(Error::Weights {
                        path: first.stored.path.clone(),
                        problem: format!("expert {missing} of {} is missing", planned.name),
                    });
                }
                let alike = |name: &String| sources[name].stored.dtype == first.stored.dtype;
                if let Some(other) = places.values().find(|name| !alike(name)) {
                    return Err(Error::Weights {
                        path: first.stored.path.clone(),
                        problem: format!(
                            "tensor {other} has another type than others of {}",
                            planned.name
                        ),
                    });
                }
                planned.pieces = places.values().cloned().collect();
                planned.shape.insert(0, places.len());
            }
            self.decide(planned)?;
        }
        self.planned = all;
        Ok(())
    }

    /// How a tensor is stored, and why.
    fn decide(&self, planned: &mut Planned) -> Result<()> {
        let settings = self.settings;
        let over = settings
            .overrides
            .iter()
            .rev()
            .find(|item| item.fits(planned.prefix()));
        let flag = match planned.role {
            Role::Embedding => settings.embed.as_ref().map(|choice| ("--embed", choice)),
            Role::Head => settings.head.as_ref().map(|choice| ("--head", choice)),
            Role::RoutedExpert(_) => settings.expert.as_ref().map(|choice| ("--expert", choice)),
            _ => None,
        };
        let asked = match over {
            Some(item) => Some((format!("--override {}", item.pattern), &item.choice)),
            None => flag.map(|(flag, choice)| (flag.to_owned(), choice)),
        };
        let exact = !planned.reason.is_empty();
        let can = is_matrix(planned.role)
            && planned.shape.len() >= 2
            && DType::of(&planned.dtype).is_some()
            && !exact;
        let columns = planned.shape.last().copied().unwrap_or(1);
        if let Some((who, choice)) = asked {
            let packing = settings.resolve(choice);
            if let Some(packing) = &packing {
                let refuse = |problem: String| {
                    Err(Error::Quantize {
                        what: who.clone(),
                        problem,
                    })
                };
                // A pattern may take more in than can be packed.
                if !can && over.is_some_and(|item| item.pattern.contains('*')) {
                    self.by_recipe(planned, can, columns);
                    return Ok(());
                }
                if !can {
                    return refuse(format!(
                        "{} ({}) is not a matrix that can be packed",
                        planned.name, planned.role
                    ));
                }
                if !columns.is_multiple_of(packing.group_size) {
                    return refuse(format!(
                        "{} has {columns} columns, which are no groups of {}",
                        planned.name, packing.group_size
                    ));
                }
            }
            planned.packing = packing;
            planned.reason = who;
            return Ok(());
        }
        self.by_recipe(planned, can, columns);
        Ok(())
    }

    fn by_recipe(&self, planned: &mut Planned, can: bool, columns: usize) {
        if !can {
            if planned.reason.is_empty() {
                let is_matrix = is_matrix(planned.role);
                let reason = if is_matrix {
                    "not numbers of floats"
                } else {
                    "no matrix"
                };
                reason.clone_into(&mut planned.reason);
            }
            return;
        }
        let subject = Subject {
            role: planned.role,
            layer: planned.layer,
            layers: self.layers,
            numbers: planned.numbers(),
        };
        let (packing, reason) = self.settings.recipe.choose(subject, self.settings);
        reason.clone_into(&mut planned.reason);
        if let Some(packing) = packing {
            // mlx-lm asks for whole groups of the base as well, whatever the tensor's own are.
            let groups = [packing.group_size, self.settings.base.group_size];
            match groups
                .into_iter()
                .find(|group| !columns.is_multiple_of(*group))
            {
                Some(group) => {
                    planned.reason = format!("{columns} columns are no groups of {group}");
                }
                None => planned.packing = Some(packing),
            }
        }
    }
}

impl SourceTensor {
    /// Whether its bytes can be copied as they are into a tensor of this type.
    pub(super) fn is(&self, dtype: &str) -> bool {
        match &self.encoding {
            Encoding::Numbers(own) => own.name() == dtype,
            Encoding::Blocks { .. } => dtype == "BF16",
            Encoding::Other => true,
        }
    }
}
