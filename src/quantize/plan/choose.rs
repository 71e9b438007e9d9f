//! How a tensor is stored, and why: what was asked for its name, then for its role, then the recipe.

use std::collections::BTreeMap;

use super::super::recipe::{Subject, is_matrix};
use super::super::settings::DType;
use super::super::source::SourceTensor;
use super::assign::Planner;
use super::{Codes, Planned};
use crate::config::{PackingConfig, PackingMode};
use crate::error::{Error, Result};
use crate::kernels::quantize::Scales;
use crate::models::roles::Role;

impl Planner<'_> {
    /// How a tensor is stored, and why.
    pub(super) fn decide(
        &self,
        planned: &mut Planned,
        sources: &BTreeMap<String, SourceTensor>,
    ) -> Result<()> {
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
            self.pack(planned, packing);
            planned.reason = who;
            planned.asked = true;
            return Ok(());
        }
        if self.keeps && can {
            keep(planned, sources);
            return Ok(());
        }
        self.by_recipe(planned, can, columns);
        Ok(())
    }

    /// Packs a tensor so, by the scales of the recipe.
    fn pack(&self, planned: &mut Planned, packing: Option<PackingConfig>) {
        // In 8 bits there is next to nothing to be won.
        let coarse = |packing: &PackingConfig| packing.bits < 8;
        if packing.as_ref().is_some_and(coarse) && self.settings.recipe.fits_scales() {
            planned.codes = Codes::Made(Scales::Fitted);
        }
        planned.packing = packing;
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
        if let Some((packing, reason)) = self.settings.searched.get(&planned.name) {
            self.pack(planned, Some(packing.clone()));
            planned.reason.clone_from(reason);
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
                None => self.pack(planned, Some(packing)),
            }
        }
    }
}

/// A matrix of a packed source as it is, as far as MLX can have it so.
fn keep(planned: &mut Planned, sources: &BTreeMap<String, SourceTensor>) {
    let source = &sources[&planned.pieces[0]];
    let format = source.format().unwrap_or_default();
    let eight = PackingConfig {
        mode: PackingMode::Affine,
        group_size: 32,
        bits: 8,
    };
    let pieces = planned.pieces.iter().map(|name| sources[name].kept());
    match pieces.collect::<Option<Vec<_>>>() {
        Some(kept) if planned.view.is_whole(&source.stored.shape) => {
            planned.packing = Some(kept[0].packing.clone());
            kept[0].dtype.name().clone_into(&mut planned.dtype);
            planned.codes = Codes::Source(kept);
            planned.reason = format!("the codes of {format} as they are");
        }
        _ if format.is_empty() => "not packed in the source".clone_into(&mut planned.reason),
        _ if planned
            .shape
            .last()
            .is_some_and(|columns| columns.is_multiple_of(32)) =>
        {
            planned.packing = Some(eight);
            planned.reason = format!("8 bits lose next to nothing of {format}");
        }
        _ => planned.reason = format!("MLX has no codes for {format}"),
    }
}
