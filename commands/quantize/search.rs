//! `--target-bpw`: which part of a model gets how many bits, by what each part costs when it alone is packed.
//!
//! Parts are the tensors of one role in a third of the layers. Each is packed by itself in few bits while all others
//! stay as they are, and the divergence from the source on a text is measured: so much for so large an error of its
//! weights. That divergences add up, and grow with the square of the error, is nearly so where they are small
//! (Malinovskii et al. 2024, arXiv:2411.17525, for noise in single layers); so what a part would cost in any number of bits
//! follows from the error of its weights, and the cheapest mix within the bytes is chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mlxr::config::PackingConfig;
use mlxr::files::ModelFiles;
use mlxr::models::roles::Role;
use mlxr::progress::{Progress, Silent, Unit};
use mlxr::quantize::{
    Checkpoint, Choice, Override, Part, Plan, Planned, QuantizeSettings, WriteOptions, loss, mix,
    plan, write,
};
use mlxr::{Error, Result};

use super::reading::{Place, Reading};
use super::statistics::Estimate;
use crate::ui::progress::Drawn;

/// The numbers of bits that a part may get.
const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];

/// Those that it is measured with: enough is lost to be seen, and not so much that nothing follows from it.
const PROBE: usize = 3;

/// Layers are divided in so many runs.
const RUNS: usize = 3;

/// Tokens of the text that count.
const TOKENS: usize = 512;

const SEARCHING: &str = "measuring parts";

/// What is searched for, and by what.
pub(super) struct Search<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// Bits for each weight of the whole.
    pub(super) target: f64,
    /// The folder that is written in the end: what is tried lies beside it for a while.
    pub(super) folder: &'a Path,
    pub(super) text: Option<&'a Path>,
    pub(super) place: Place,
}

/// Tensors of one part, and what they are called together.
type Parts<'a> = BTreeMap<(String, usize), Vec<&'a Planned>>;

impl Search<'_> {
    /// Puts what was found into the settings.
    pub(super) fn run(&self, settings: &mut QuantizeSettings, progress: &Arc<Drawn>) -> Result<()> {
        let whole = plan(self.checkpoint, settings)?;
        let parts = parts(&whole);
        let room = (self.target * whole.numbers() as f64 / 8.0) as usize;
        let searched: usize = parts.values().flatten().map(|tensor| tensor.bytes()).sum();
        let others = whole.bytes() - searched;
        let packings = BITS.map(|bits| settings.of_bits(bits));
        let bytes = |tensors: &[&Planned], packing: &PackingConfig| {
            let each = tensors.iter().map(|tensor| tensor.bytes_as(packing));
            each.sum::<usize>()
        };
        let least: usize = parts
            .values()
            .map(|tensors| bytes(tensors, &packings[0]))
            .sum();
        if others + least > room {
            let lowest = 8.0 * (others + least) as f64 / whole.numbers().max(1) as f64;
            return Err(Error::Quantize {
                what: format!("--target-bpw {}", self.target),
                problem: format!(
                    "with all that is searched in {} bits there are {lowest:.3} for each weight",
                    BITS[0]
                ),
            });
        }
        let costs = self.measure(&whole, &parts, settings, progress)?;
        let choices: Vec<Part> = parts
            .values()
            .zip(&costs)
            .map(|(tensors, cost)| Part {
                choices: packings
                    .iter()
                    .map(|packing| {
                        (
                            bytes(tensors, packing),
                            cost * lost(&whole, tensors, packing),
                        )
                    })
                    .collect(),
            })
            .collect();
        let chosen = mix(&choices, room - others).unwrap_or_default();
        for ((((name, run), tensors), part), choice) in parts.iter().zip(&choices).zip(chosen) {
            let packing = &packings[choice];
            let reason = format!(
                "searched: {name}, layers {} of {RUNS}: {:.1e} nats per token lost",
                run + 1,
                part.choices[choice].1
            );
            for tensor in tensors {
                let found = (packing.clone(), reason.clone());
                settings.searched.insert(tensor.name.clone(), found);
            }
        }
        Ok(())
    }

    /// For each part the divergence by the square of the weights' error, when it alone is packed.
    fn measure(
        &self,
        whole: &Plan,
        parts: &Parts<'_>,
        settings: &QuantizeSettings,
        progress: &Arc<Drawn>,
    ) -> Result<Vec<f64>> {
        let probe = settings.of_bits(PROBE);
        let beside = |end: &str| {
            let name = self
                .folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            self.folder.with_file_name(format!(".{name}.{end}"))
        };
        let folder = beside("search");
        let base = self.base(whole, settings, &beside("base"))?;
        let loaded = self.place.load(&base, progress)?;
        let reading = Reading::new(&loaded, &base, self.text, TOKENS, progress)?;
        progress.start(SEARCHING, Some(parts.len() as u64), Unit::Items);
        let mut costs = Vec::new();
        for tensors in parts.values() {
            let names: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            let mut settings = settings.clone();
            for name in &names {
                let found = (probe.clone(), String::new());
                settings.searched.insert((*name).to_owned(), found);
            }
            let part = plan(self.checkpoint, &settings)?.only(&names);
            let hidden: BTreeSet<&str> = tensors
                .iter()
                .flat_map(|tensor| tensor.pieces())
                .map(String::as_str)
                .chain(names)
                .collect();
            let over = ModelFiles::Folder(folder.clone());
            let tokens = write(&part, &options(&folder), &Silent)
                .and_then(|_| self.place.load_over(&base, &over, &hidden, progress))
                .and_then(|packed| reading.compare(&packed));
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
            }
            let tokens = tokens?;
            let divergence = Estimate::of(tokens.iter().map(|token| token.divergence)).mean;
            let error = lost(whole, tensors, &probe);
            costs.push(if error == 0.0 {
                0.0
            } else {
                divergence / error
            });
            progress.advance(SEARCHING, costs.len() as u64);
        }
        progress.finish(SEARCHING);
        if let ModelFiles::Folder(path) = &base
            && self.checkpoint.files() != &base
        {
            fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
        }
        Ok(costs)
    }

    /// The checkpoint that parts are laid over: the source, or where tensors get other names, the source laid out so.
    fn base(&self, whole: &Plan, settings: &QuantizeSettings, folder: &Path) -> Result<ModelFiles> {
        let is_alike = whole
            .tensors
            .iter()
            .all(|tensor| tensor.pieces() == [tensor.name.as_str()]);
        if is_alike {
            return Ok(self.checkpoint.files().clone());
        }
        let all = Override {
            pattern: "*".to_owned(),
            choice: Choice::Keep,
        };
        let settings = QuantizeSettings {
            overrides: vec![all],
            ..settings.clone()
        };
        write(
            &plan(self.checkpoint, &settings)?,
            &options(folder),
            &Silent,
        )?;
        Ok(ModelFiles::Folder(folder.to_path_buf()))
    }
}

fn options(folder: &Path) -> WriteOptions {
    WriteOptions {
        target: folder.to_path_buf(),
        memory: None,
        force: false,
    }
}

/// Packed tensors that nobody asked for by role or name, by role and run of layers.
fn parts(plan: &Plan) -> Parts<'_> {
    let layers = plan.tensors.iter().filter_map(|tensor| tensor.layer).max();
    let layers = layers.map_or(1, |last| last + 1);
    let mut parts = Parts::new();
    for tensor in &plan.tensors {
        if tensor.packing.is_none() || tensor.asked || tensor.role == Role::Unknown {
            continue;
        }
        let run = tensor.layer.unwrap_or(0) * RUNS / layers;
        let part = parts.entry((tensor.role.to_string(), run));
        part.or_default().push(tensor);
    }
    parts
}

/// The squares of what is off in the weights of a part, by those of the weights: the mean of its tensors, by their size.
fn lost(plan: &Plan, tensors: &[&Planned], packing: &PackingConfig) -> f64 {
    let numbers: usize = tensors.iter().map(|tensor| tensor.numbers()).sum();
    let each = tensors
        .iter()
        .map(|tensor| loss(plan, tensor, packing).unwrap_or_default() * tensor.numbers() as f64);
    each.sum::<f64>() / numbers.max(1) as f64
}
