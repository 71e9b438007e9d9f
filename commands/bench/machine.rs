//! What computes, in words, as the system calls it. Measures nothing.

use std::fs;
use std::process::Command;

use mlxr::mlx::Device;

/// The machine that results were measured on.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The processor; empty where the system does not say.
    pub(crate) cpu: String,
    /// The GPU, where one computes; empty where it does not or the system does not say.
    pub(crate) gpu: String,
    /// `CPU`, `CUDA` or `Metal`.
    pub(crate) backend: &'static str,
}

impl Machine {
    pub(crate) fn of(device: Device) -> Self {
        let (gpu, backend) = match device {
            Device::Cpu => (String::new(), "CPU"),
            // Apple's GPUs are part of the processor and have its name.
            Device::Gpu if cfg!(target_os = "macos") => (cpu(), "Metal"),
            Device::Gpu => (nvidia_gpu(), "CUDA"),
        };
        Self {
            cpu: cpu(),
            gpu,
            backend,
        }
    }
}

fn cpu() -> String {
    if cfg!(target_os = "macos") {
        let told = Command::new("sysctl")
            .args(["-n", "machdep.cpu.brand_string"])
            .output();
        return told
            .map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned())
            .unwrap_or_default();
    }
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&told, "model name")
}

/// The first GPU that NVIDIA's driver lists.
fn nvidia_gpu() -> String {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus");
    let mut cards = folders.into_iter().flatten().flatten();
    let told = cards.find_map(|card| fs::read_to_string(card.path().join("information")).ok());
    field(&told.unwrap_or_default(), "Model")
}

/// The first value of a field in lines of `name : value`.
fn field(text: &str, name: &str) -> String {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(field, _)| field.trim() == name);
    found.map_or(String::new(), |(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text =
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC: 7B13\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), "AMD EPYC: 7B13");
        assert_eq!(field(text, "flags"), "");
    }
}
