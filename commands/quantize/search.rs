//! `--target-bpw`: which part of a model gets how many bits, by what each part costs when it alone is packed.
//!
//! Parts are the tensors of one role in a third of the layers. Each is packed by itself in few bits while all others
//! stay as they are, and the divergence from the source on a text is measured: so much for so large an error of its
//! weights. That divergences add up, and grow with the square of the error, is nearly so where they are small
//! (Malinovskii et al. 2024, arXiv:2411.17525, for noise in single layers); so what a part would cost in any number of bits
//! follows from the error of its weights, and the cheapest mix within the bytes is chosen; or the same bits for all parts,
//! where they fit and lose less when both are measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
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

use super::reading::{Place, Reading, Text};
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
    pub(super) text: &'a Text,
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
        let base = self.base(&whole, settings, &self.beside("base"))?;
        let loaded = self.place.load(&base, progress)?;
        let reading = Reading::new(&loaded, self.text, TOKENS, progress)?;
        let probe = settings.of_bits(PROBE);
        progress.start(SEARCHING, Some(parts.len() as u64), Unit::Items);
        let mut choices = Vec::new();
        for tensors in parts.values() {
            let packed: Vec<(&Planned, &PackingConfig)> =
                tensors.iter().map(|tensor| (*tensor, &probe)).collect();
            let divergence = self.divergence(&packed, settings, &base, &reading, progress)?;
            let error = lost(&whole, tensors, &probe);
            let cost = if error == 0.0 {
                0.0
            } else {
                divergence / error
            };
            let each = packings.iter().map(|packing| {
                (
                    bytes(tensors, packing),
                    cost * lost(&whole, tensors, packing),
                )
            });
            choices.push(Part {
                choices: each.collect(),
            });
            progress.advance(SEARCHING, choices.len() as u64);
        }
        progress.finish(SEARCHING);
        let mut chosen = mix(&choices, room - others).unwrap_or_default();
        let same = alike(&choices, room - others);
        if let Some(same) = same.map(|choice| vec![choice; choices.len()]) {
            // Where much is lost, what parts lose does not add up.
            let [found, plain] = [&chosen, &same].map(|chosen| {
                let each = parts.values().zip(chosen);
                let packed: Vec<(&Planned, &PackingConfig)> = each
                    .flat_map(|(tensors, &choice)| {
                        tensors.iter().map(move |tensor| (*tensor, choice))
                    })
                    .map(|(tensor, choice)| (tensor, &packings[choice]))
                    .collect();
                self.divergence(&packed, settings, &base, &reading, progress)
            });
            if plain? < found? {
                chosen = same;
            }
        }
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
        if let ModelFiles::Folder(path) = &base
            && self.checkpoint.files() != &base
        {
            fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    /// How far from the source a model is in which these tensors are packed so.
    fn divergence(
        &self,
        packed: &[(&Planned, &PackingConfig)],
        settings: &QuantizeSettings,
        base: &ModelFiles,
        reading: &Reading<'_>,
        progress: &Drawn,
    ) -> Result<f64> {
        let mut settings = settings.clone();
        for (tensor, packing) in packed {
            let found = ((*packing).clone(), String::new());
            settings.searched.insert(tensor.name.clone(), found);
        }
        let names = packed.iter().map(|(tensor, _)| tensor.name.as_str());
        let names: BTreeSet<&str> = names.collect();
        let pieces = packed.iter().flat_map(|(tensor, _)| tensor.pieces());
        let hidden: BTreeSet<&str> = pieces.map(String::as_str).chain(names.clone()).collect();
        let part = plan(self.checkpoint, &settings)?.only(&names);
        let folder = self.beside("search");
        let over = ModelFiles::Folder(folder.clone());
        let tokens = write(&part, &options(&folder), &Silent)
            .and_then(|_| self.place.load_over(base, &over, &hidden, progress))
            .and_then(|packed| reading.compare(&packed));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        let tokens = tokens?;
        Ok(Estimate::of(tokens.iter().map(|token| token.divergence)).mean)
    }

    /// A hidden folder beside the one that is written in the end.
    fn beside(&self, end: &str) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default();
        let name = format!(".{}.{end}", name.to_string_lossy());
        self.folder.with_file_name(name)
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

/// The last choice that fits if all parts have the same.
fn alike(parts: &[Part], room: usize) -> Option<usize> {
    let bytes = |choice: usize| parts.iter().map(move |part| part.choices[choice].0);
    (0..BITS.len()).rfind(|&choice| bytes(choice).sum::<usize>() <= room)
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
