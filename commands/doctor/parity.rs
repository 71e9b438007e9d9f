//! `mlxr doctor --parity`: fixed prompts by every way of computing that there is, each against float32 on the CPU.
//!
//! The reference chooses the tokens, and all others are led along them, so that what follows a difference can be
//! compared as well.

mod difference;

use std::sync::Arc;

use mlxr::engine::request::Token;
use mlxr::engine::stepper::{Input, Stepper, Work};
use mlxr::mlx::{self, Device, DeviceChoice};
use mlxr::models::Source;
use mlxr::sample::Sampling;
use mlxr::tokenizer::{Bos, Tokenizer};
use mlxr::{Error, LoadOptions, Result};
use serde::Serialize;

use crate::model;
use crate::settings::Settings;
use crate::ui::Exit;
use crate::ui::printer::{self, Printer};
use crate::ui::progress::Drawn;
use crate::ui::table::{Align, Table};
use difference::{Difference, WATCHED};

/// What is asked: prose, facts, code, other scripts.
const PROMPTS: [(&str, &str); 4] = [
    (
        "prose",
        "Once upon a time, there was a little girl named Lily. She loved to play in the garden, and one day she found",
    ),
    (
        "facts",
        "The capital of France is Paris. The capital of Italy is Rome. The capital of Japan is",
    ),
    (
        "code",
        "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    ),
    (
        "scripts",
        "Der Fluss entspringt in den Bergen. 川は山から海へ流れる。 Река течёт к морю. 1, 2, 3, 5, 8, 13,",
    ),
];

/// Tokens of a prompt that is longer than what caches keep together: all of the above, again and again.
const LONG: usize = 300;

/// Tokens that each answer has.
const ANSWER: usize = 32;

/// One way of computing.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    device: DeviceChoice,
    /// In float32 throughout.
    exact: bool,
    /// By graphs alone.
    graphs: bool,
}

/// Float32 throughout.
const REFERENCE: Way = Way {
    name: "cpu-exact",
    device: DeviceChoice::Cpu,
    exact: true,
    graphs: false,
};

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Parity {
    model: String,
    architecture: String,
    quantization: String,
    mlx_version: String,
    reference: &'static str,
    /// Whether what differs is nearly as likely, everywhere.
    agrees: bool,
    compared: Vec<Compared>,
}

/// One way of computing against the reference, on one prompt.
#[derive(Debug, Serialize)]
struct Compared {
    way: &'static str,
    prompt: &'static str,
    prompt_tokens: usize,
    #[serde(flatten)]
    difference: Difference,
}

/// Compares all ways of computing a model and shows it.
pub(super) fn run(
    name: Option<&str>,
    json: bool,
    settings: &Settings,
    printer: Printer,
) -> Result<Exit> {
    let progress = Arc::new(Drawn::new(printer));
    let (model, files) = model::named(name, settings, &progress)?;
    let tokenizer = Tokenizer::load(&files)?;
    // Before the CPU is asked for: a library that knows the GPU knows the CPU too.
    let device = mlx::open(DeviceChoice::Auto, settings.library.as_deref())?;
    let source = Source::Files(files);
    let open = |way: Way| {
        let options = LoadOptions {
            device: way.device,
            exact: way.exact,
            graphs: way.graphs,
            library: settings.library.clone(),
            ..LoadOptions::default()
        };
        mlxr::open_stepper(&source, &options, Arc::<Drawn>::clone(&progress))
    };
    let (mut stepper, about) = open(REFERENCE)?;
    let prompts = prompts(&tokenizer, about.context)?;
    let expected: Vec<Vec<Token>> = prompts
        .iter()
        .map(|(_, prompt)| walk(&mut stepper, prompt, None))
        .collect::<Result<_>>()?;
    drop(stepper);
    let mut compared = Vec::new();
    for way in ways(device, settings.graphs) {
        let (mut stepper, _) = open(way)?;
        for ((prompt, tokens), expected) in prompts.iter().zip(&expected) {
            let found = walk(&mut stepper, tokens, Some(expected))?;
            compared.push(Compared {
                way: way.name,
                prompt,
                prompt_tokens: tokens.len(),
                difference: Difference::new(expected, &found, &tokenizer),
            });
        }
    }
    let parity = Parity {
        model,
        architecture: about.architecture,
        quantization: about.quantization,
        mlx_version: about.mlx_version,
        reference: REFERENCE.name,
        agrees: compared.iter().all(|one| one.difference.is_near()),
        compared,
    };
    parity.show(json, settings, printer)
}

/// All but the reference.
fn ways(device: Device, only_graphs: bool) -> Vec<Way> {
    let cpu = Way {
        name: "cpu",
        exact: false,
        ..REFERENCE
    };
    let graphs = Way {
        name: "gpu-graphs",
        device: DeviceChoice::Gpu,
        graphs: true,
        ..cpu
    };
    let gpu = Way {
        name: "gpu",
        graphs: false,
        ..graphs
    };
    match device {
        Device::Cpu => vec![cpu],
        Device::Gpu if only_graphs => vec![cpu, graphs],
        Device::Gpu => vec![cpu, gpu, graphs],
    }
}

/// The prompts' tokens, as far as the context has room for an answer.
fn prompts(tokenizer: &Tokenizer, context: usize) -> Result<Vec<(&'static str, Vec<u32>)>> {
    let room = context.saturating_sub(ANSWER).max(1);
    let mut prompts = Vec::new();
    for (name, text) in PROMPTS {
        prompts.push((name, tokenizer.encode(text, Bos::Auto)?));
    }
    let all: Vec<u32> = prompts
        .iter()
        .flat_map(|(_, tokens)| tokens)
        .copied()
        .collect();
    prompts.push(("long", all.into_iter().cycle().take(LONG).collect()));
    for (_, tokens) in &mut prompts {
        tokens.truncate(room);
    }
    Ok(prompts)
}

/// The tokens after a prompt, each with the likeliest beside it: the likeliest one goes on, or what `along` has.
fn walk(stepper: &mut impl Stepper, prompt: &[u32], along: Option<&[Token]>) -> Result<Vec<Token>> {
    let slot = stepper.open()?;
    let sampling = Sampling {
        logprobs: Some(WATCHED),
        ..Sampling::greedy()
    };
    stepper.sampling(slot, &sampling, 0, prompt)?;
    let chunk = stepper.prefill_chunk().max(1);
    let mut step = |tokens: &[u32], sample: bool| {
        stepper.step(&[Work {
            slot,
            input: Input::Tokens(tokens.to_vec()),
            sample,
            mask: None,
            reading: None,
            captures: Vec::new(),
        }])?;
        let outcomes = stepper.collect()?;
        if outcomes.iter().any(|outcome| outcome.is_broken) {
            return Err(Error::NotFinite);
        }
        Ok(outcomes.into_iter().find_map(|outcome| outcome.token))
    };
    let mut token = None;
    let last = prompt.len().div_ceil(chunk) - 1;
    for (number, tokens) in prompt.chunks(chunk).enumerate() {
        token = step(tokens, number == last)?;
    }
    let mut answer = Vec::with_capacity(ANSWER);
    while let Some(found) = token {
        let next = along.map_or(found.id, |along| along[answer.len()].id);
        answer.push(found);
        if answer.len() == ANSWER {
            break;
        }
        token = step(&[next], true)?;
    }
    stepper.close(slot);
    Ok(answer)
}

impl Parity {
    fn show(&self, json: bool, settings: &Settings, printer: Printer) -> Result<Exit> {
        if json {
            // It has string keys and finite numbers only, so it cannot fail.
            printer::json(&serde_json::to_value(self).unwrap_or_default())?;
        } else {
            printer::data(&self.table().shown(settings.terminals.stdout))?;
        }
        printer::flush()?;
        printer.talk(format_args!(
            "{} ({}, {}): {ANSWER} tokens after each prompt against {}; differences are those of log-probabilities",
            self.model, self.architecture, self.quantization, self.reference
        ));
        Ok(if self.agrees {
            Exit::Success
        } else {
            Exit::Gate
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        let mut column = |name, align, cell: &dyn Fn(&Compared) -> String| {
            table.column(name, align, self.compared.iter().map(cell));
        };
        column("way", Align::Left, &|one| one.way.to_owned());
        column("prompt", Align::Left, &|one| one.prompt.to_owned());
        column("tokens", Align::Right, &|one| one.prompt_tokens.to_string());
        column("first difference", Align::Left, &|one| {
            one.difference.first()
        });
        column("largest", Align::Right, &|one| {
            format!("{:.4}", one.difference.largest)
        });
        column("mean", Align::Right, &|one| {
            format!("{:.5}", one.difference.mean)
        });
        table
    }
}

#[cfg(test)]
mod tests {
    use mlxr::mlx::Device;

    use super::ways;

    #[test]
    fn the_kernel_for_decoding_is_left_out_where_it_is_forbidden() {
        let names = |device, only_graphs| -> Vec<&str> {
            let ways = ways(device, only_graphs).into_iter();
            ways.map(|way| way.name).collect()
        };
        assert_eq!(names(Device::Cpu, false), ["cpu"]);
        assert_eq!(names(Device::Gpu, false), ["cpu", "gpu", "gpu-graphs"]);
        assert_eq!(names(Device::Gpu, true), ["cpu", "gpu-graphs"]);
    }
}
