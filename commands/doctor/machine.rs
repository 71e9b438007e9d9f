//! The processor and memory, as kernels and engine see them.

use std::num::NonZero;
use std::thread;

use mlxr::kernels::Instructions;
use mlxr::memory;
use serde::Serialize;

use super::check::{self, Check};

/// What computes where no GPU does.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    /// Threads that run at a time, for this process.
    cores: usize,
    instructions: String,
    /// All that kernels could use, the best last.
    instructions_available: Vec<String>,
    memory: Memory,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names say the unit in JSON")]
struct Memory {
    total_bytes: usize,
    available_bytes: usize,
    /// The limit of the control group, where it is less than the machine has.
    group_limit_bytes: Option<usize>,
}

impl Machine {
    pub(super) fn look(checks: &mut Vec<Check>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        checks.push(Check::ok("cores", cores.to_string()));
        let best = Instructions::best();
        checks.push(if best == Instructions::Portable {
            Check::note(
                "instructions",
                best.to_string(),
                "take a processor with AVX2 or NEON `dotprod`: kernels are slow without",
            )
        } else {
            Check::ok("instructions", best.to_string())
        });
        let now = memory::Machine::now();
        let memory = Memory {
            total_bytes: now.total,
            available_bytes: now.available,
            group_limit_bytes: memory::of_group(),
        };
        checks.push(memory.check());
        let available = Instructions::available();
        Self {
            cores,
            instructions: best.to_string(),
            instructions_available: available.iter().map(ToString::to_string).collect(),
            memory,
        }
    }
}

impl Memory {
    /// With less there is room for little more than the built-in model.
    const LITTLE: usize = 1 << 30;

    fn check(&self) -> Check {
        let [total, free] =
            [self.total_bytes, self.available_bytes].map(|bytes| check::size(bytes as u64));
        let limit = match self.group_limit_bytes {
            Some(_) => ", the limit of the control group",
            None => "",
        };
        let said = format!("{free} free of {total}{limit}");
        if self.available_bytes < Self::LITTLE {
            let advice =
                "end other programs, or raise the limit of the control group: few models fit";
            Check::note("memory", said, advice)
        } else {
            Check::ok("memory", said)
        }
    }
}
