//! The arguments that say which model computes, where, and what it may take.

use std::ffi::OsString;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use mlxr::mlx::DeviceChoice;

use super::{names, numbers};

/// Which model, and how it is computed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]
    #[arg(short, long, add = ArgValueCompleter::new(names::models))]
    pub(crate) model: Option<String>,
    /// Where to compute; `auto` is the GPU where there is one
    #[arg(long, value_enum, default_value_t)]
    pub(crate) device: Device,
    /// Threads that compute on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = numbers::threads)]
    pub(crate) threads: Option<usize>,
    /// Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights
    #[arg(long)]
    pub(crate) cpu_exact: bool,
}

/// How many processes compute a model.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct RanksArgs {
    /// Processes that compute a model together, each a part of every layer, on a GPU of its own or on the CPU
    #[arg(long, value_name = "N", value_parser = numbers::ranks, conflicts_with = "cache", help_heading = "Model")]
    pub(crate) ranks: Option<usize>,
}

/// What may be taken of the device's memory.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct BudgetArgs {
    /// Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to
    /// the host's memory, as much again at most [default: three quarters of what the device has, or what it can
    /// give now]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
}

impl BudgetArgs {
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.memory.map(|memory| memory.as_u64() as usize)
    }
}

/// Where what is computed of prompts is kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct KeptArgs {
    /// Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR:
    /// mlxr in `XDG_CACHE_HOME` or ~/.cache]
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
    )]
    pub(crate) cache: Option<OsString>,
    /// What the folder may hold: the prompts used longest ago go
    #[arg(long, value_name = "SIZE", default_value = "20GiB", requires = "cache")]
    pub(crate) cache_size: ByteSize,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    #[default]
    Auto,
    Cpu,
    Gpu,
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Gpu => Self::Gpu,
        }
    }
}
