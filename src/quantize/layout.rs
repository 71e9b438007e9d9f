//! Which file holds which tensor, and where: known before anything is written.

use serde_json::{Map, Value, json};

use super::plan::{Plan, Planned};
use crate::config::PackingMode;
use crate::weights::{SINGLE, header};

/// Bytes of tensors in one file at most, unless one alone is larger: mlx-lm's 5 GiB.
const SHARD: usize = 5 << 30;

/// One tensor of a file: the numbers of a planned one, its codes, its scales or its biases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: usize,
}

/// A file of weights.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) name: String,
    /// What stands in front of the tensors.
    pub(super) header: Vec<u8>,
    pub(super) bytes: usize,
}

/// Where a part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) shard: usize,
    pub(super) offset: usize,
}

/// All files.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) shards: Vec<Shard>,
    /// For each planned tensor its parts, and where they are.
    pub(super) parts: Vec<Vec<(Part, Place)>>,
}

/// The tensors that a planned one becomes: its numbers, or codes, scales and, in affine mode, biases.
pub(super) fn parts(planned: &Planned) -> Vec<Part> {
    let part = |name: String, dtype: &str, shape: Vec<usize>| Part {
        bytes: (shape.iter().product::<usize>() * bits_of(dtype)).div_ceil(8),
        name,
        dtype: dtype.to_owned(),
        shape,
    };
    let Some(packing) = &planned.packing else {
        return vec![part(
            planned.name.clone(),
            &planned.dtype,
            planned.shape.clone(),
        )];
    };
    let with_columns = |columns: usize| {
        let mut shape = planned.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = columns;
        }
        shape
    };
    let columns = planned.shape.last().copied().unwrap_or(0);
    let words = with_columns(columns * packing.bits / 32);
    let groups = with_columns(columns / packing.group_size);
    let prefix = planned.prefix();
    let mut all = vec![part(planned.name.clone(), "U32", words)];
    let name = |end: &str| format!("{prefix}.{end}");
    if packing.mode == PackingMode::Affine {
        all.push(part(name("scales"), &planned.dtype, groups.clone()));
        all.push(part(name("biases"), &planned.dtype, groups));
    } else {
        all.push(part(name("scales"), "U8", groups));
    }
    all
}

/// Bits of a number of a type that safetensors files name.
fn bits_of(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => 8,
    }
}

impl Layout {
    /// Fills files in the order of the plan; in each, tensors of larger numbers come first, so that all begin at
    /// multiples of their size.
    pub(super) fn of(plan: &Plan) -> Self {
        let parts: Vec<Vec<Part>> = plan.tensors.iter().map(parts).collect();
        let mut shards: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut taken = 0;
        for (tensor, parts) in parts.iter().enumerate() {
            for (index, part) in parts.iter().enumerate() {
                if shards.is_empty() || taken + part.bytes > SHARD {
                    shards.push(Vec::new());
                    taken = 0;
                }
                taken += part.bytes;
                if let Some(shard) = shards.last_mut() {
                    shard.push((tensor, index));
                }
            }
        }
        let count = shards.len();
        let none = Place {
            shard: 0,
            offset: 0,
        };
        let mut placed: Vec<Vec<(Part, Place)>> = parts
            .iter()
            .map(|parts| parts.iter().map(|part| (part.clone(), none)).collect())
            .collect();
        let files = shards.into_iter().enumerate().map(|(shard, mut members)| {
            members.sort_by_key(|&(tensor, index)| {
                std::cmp::Reverse(bits_of(&parts[tensor][index].dtype))
            });
            let tensors = members.iter().map(|&(tensor, index)| {
                let part = &parts[tensor][index];
                (
                    part.name.as_str(),
                    part.dtype.as_str(),
                    part.shape.as_slice(),
                    part.bytes,
                )
            });
            let header = header(tensors);
            let mut offset = header.len();
            for (tensor, index) in members {
                placed[tensor][index].1 = Place { shard, offset };
                offset += parts[tensor][index].bytes;
            }
            let name = if count == 1 {
                SINGLE.to_owned()
            } else {
                format!("model-{:05}-of-{count:05}.safetensors", shard + 1)
            };
            Shard {
                name,
                header,
                bytes: offset,
            }
        });
        Self {
            shards: files.collect(),
            parts: placed,
        }
    }

    /// What `model.safetensors.index.json` says.
    pub(super) fn index(&self, plan: &Plan) -> Value {
        let mut all: Vec<(&str, &str)> = self
            .parts
            .iter()
            .flatten()
            .map(|(part, place)| (part.name.as_str(), self.shards[place.shard].name.as_str()))
            .collect();
        all.sort_unstable();
        let map: Map<String, Value> = all
            .into_iter()
            .map(|(name, shard)| (name.to_owned(), json!(shard)))
            .collect();
        json!({
            "metadata": {"total_size": plan.bytes(), "total_parameters": plan.numbers()},
            "weight_map": map,
        })
    }
}
