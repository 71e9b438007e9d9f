//! What becomes of each tensor, or of each role: a table for people, JSON for programs.

use std::collections::BTreeMap;

use indicatif::BinaryBytes;
use mlxr::Result;
use mlxr::quantize::{Plan, Planned};
use serde_json::{Value, json};

use crate::args::Quantize;
use crate::settings::Settings;
use crate::ui::printer;
use crate::ui::table::{Align, Table};

/// Prints what is planned: each tensor where that was asked for, else each role.
pub(super) fn show(plan: &Plan, args: &Quantize, settings: &Settings) -> Result<()> {
    if args.json {
        let mut value = summary(plan, None);
        if args.explain {
            value["tensors"] = plan.tensors.iter().map(tensor).collect();
            value["dropped"] = plan
                .dropped
                .iter()
                .map(|(name, reason)| json!({"name": name, "reason": reason}))
                .collect();
        }
        return printer::json(&value);
    }
    let table = if args.explain {
        tensors(plan)
    } else {
        roles(plan)
    };
    printer::data(&table.shown(settings.terminals.stdout))?;
    printer::data(&format!(
        "\n{} in {:.3} bits per weight, from {}\n",
        BinaryBytes(plan.bytes() as u64),
        plan.bits_per_weight(),
        BinaryBytes(plan.source_bytes() as u64),
    ))
}

/// The whole of it, for programs.
pub(super) fn summary(plan: &Plan, seconds: Option<f64>) -> Value {
    json!({
        "bytes": plan.bytes(),
        "source_bytes": plan.source_bytes(),
        "weights": plan.numbers(),
        "bits_per_weight": plan.bits_per_weight(),
        "seconds": seconds,
    })
}

/// How a tensor is stored: a packing, or a type.
fn choice(tensor: &Planned) -> String {
    match &tensor.packing {
        Some(packing) => packing.to_string(),
        None => tensor.dtype.to_lowercase(),
    }
}

fn tensor(tensor: &Planned) -> Value {
    json!({
        "name": tensor.name,
        "role": tensor.role.to_string(),
        "layer": tensor.layer,
        "shape": tensor.shape,
        "choice": choice(tensor),
        "packed": tensor.packing.is_some(),
        "reason": tensor.reason,
        "bytes": tensor.bytes(),
    })
}

fn tensors(plan: &Plan) -> Table {
    let mut table = Table::default();
    let all = &plan.tensors;
    table.column(
        "tensor",
        Align::Left,
        all.iter().map(|tensor| tensor.name.clone()),
    );
    table.column(
        "role",
        Align::Left,
        all.iter().map(|tensor| tensor.role.to_string()),
    );
    let shapes = all.iter().map(|tensor| {
        let sizes: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        sizes.join("×")
    });
    table.column("shape", Align::Right, shapes);
    table.column("stored", Align::Left, all.iter().map(choice));
    let sizes = all
        .iter()
        .map(|tensor| BinaryBytes(tensor.bytes() as u64).to_string());
    table.column("size", Align::Right, sizes);
    table.column(
        "why",
        Align::Left,
        all.iter().map(|tensor| tensor.reason.clone()),
    );
    table
}

/// Roles as they come, each way of storing them in a row of its own.
fn roles(plan: &Plan) -> Table {
    let mut rows: BTreeMap<(String, String, String), (usize, usize)> = BTreeMap::new();
    for tensor in &plan.tensors {
        let key = (
            tensor.role.to_string(),
            choice(tensor),
            tensor.reason.clone(),
        );
        let (count, bytes) = rows.entry(key).or_default();
        *count += 1;
        *bytes += tensor.bytes();
    }
    let mut table = Table::default();
    table.column(
        "role",
        Align::Left,
        rows.keys().map(|(role, ..)| role.clone()),
    );
    table.column(
        "tensors",
        Align::Right,
        rows.values().map(|(count, _)| count.to_string()),
    );
    table.column(
        "stored",
        Align::Left,
        rows.keys().map(|(_, choice, _)| choice.clone()),
    );
    let sizes = rows
        .values()
        .map(|(_, bytes)| BinaryBytes(*bytes as u64).to_string());
    table.column("size", Align::Right, sizes);
    table.column(
        "why",
        Align::Left,
        rows.keys().map(|(.., reason)| reason.clone()),
    );
    table
}
