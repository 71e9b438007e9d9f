//! Which tensor of the source becomes which that is written, or a part of it: by the table of its architecture.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::super::settings::{DType, QuantizeSettings};
use super::super::source::SourceTensor;
use super::super::strided::Strided;
use super::{Codes, Planned};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels::matrix::Number;
use crate::kernels::quantize::Scales;
use crate::models::roles::{Layout, Numbers, Role, Tensors, View};
use crate::models::text_prefixes;

/// Whether the checkpoint was not saved by mlx-lm, which turns convolutions around and adds 1 to norms.
pub(super) fn is_raw(sources: &BTreeMap<String, SourceTensor>) -> bool {
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

pub(super) struct Planner<'a> {
    pub(super) settings: &'a QuantizeSettings,
    pub(super) config: &'a Config,
    pub(super) tensors: Tensors,
    pub(super) layers: usize,
    pub(super) is_raw: bool,
    /// Codes of the source stay as they are.
    pub(super) keeps: bool,
    /// With the places in their stacks that were found.
    pub(super) planned: BTreeMap<String, (Planned, BTreeMap<usize, String>)>,
    pub(super) dropped: Vec<(String, String)>,
}

impl Planner<'_> {
    pub(super) fn all(&mut self, sources: &BTreeMap<String, SourceTensor>) -> Result<()> {
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
            asked: false,
            codes: Codes::Made(Scales::Mlx),
            raised: None,
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
        let failed = Cell::new(None);
        let size = |field: &str| {
            let size = self.config.optional_size(field);
            size.unwrap_or_else(|error| {
                failed.set(Some(error));
                None
            })
        };
        let shape = &source.stored.shape;
        let strided = Strided::of(wanted.view, shape, size);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let (view, mut made) = strided.ok_or_else(|| {
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
        let raised = self.is_raw && matches!(layout, Layout::Raised);
        let of_mlx_lm = self.settings.recipe.is_of_mlx_lm();
        let dtype = match (source.dtype(), self.settings.dtype) {
            (Some(_), Some(asked)) if !exact => Some(asked),
            // Half floats near 1 are too coarse for how far a norm is from it.
            (Some(_), None) if raised && !of_mlx_lm => Some(DType(Number::Float32)),
            (stored, _) => stored,
        };
        // mlx-lm adds before it converts.
        let raised_in = if of_mlx_lm { source.dtype() } else { dtype }.filter(|_| raised);
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
            asked: false,
            codes: Codes::Made(Scales::Mlx),
            raised: raised_in,
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
                let alike = |name: &String| {
                    let other = &sources[name];
                    let packing = |source: &SourceTensor| {
                        source.kept().map(|kept| (kept.packing, kept.dtype))
                    };
                    other.stored.dtype == first.stored.dtype && packing(other) == packing(first)
                };
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
            self.decide(planned, sources)?;
        }
        self.planned = all;
        Ok(())
    }
}
