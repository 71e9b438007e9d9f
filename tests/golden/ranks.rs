//! Checkpoints computed by two processes together: the same tests, in processes that are told of each other.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};

use mlxr::mlx::{Device, Group, devices};

use super::{on, say};

/// The processes of which this is one, where there are several.
pub(super) fn group() -> Option<&'static Arc<Group>> {
    static GROUP: OnceLock<Option<Arc<Group>>> = OnceLock::new();
    let join = || {
        std::env::var_os("MLX_RANK")?;
        let device = if on("gpu") { Device::Gpu } else { Device::Cpu };
        Some(Arc::new(Group::join(device).unwrap()))
    };
    GROUP.get_or_init(join).as_ref()
}

/// What both run, in the same order.
const TESTS: [&str; 3] = [
    "whole_prompts_match_the_reference",
    "along::the_kernel_that_decodes_knows_these",
    "along::engines_write_what_the_reference_does",
];

#[test]
fn two_processes_compute_what_the_reference_does() {
    if group().is_some() {
        return;
    }
    if on("gpu") && devices().unwrap().len() < 3 {
        return say("skipped: two processes need two GPUs");
    }
    let listeners = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let ports = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port());
    let [one, other, meeting] = ports;
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let addresses = format!("[[\"127.0.0.1:{one}\"], [\"127.0.0.1:{other}\"]]");
    std::fs::write(hosts.path(), addresses).unwrap();
    drop(listeners);
    let children: Vec<Child> = (0..2)
        .map(|rank| {
            Command::new(std::env::current_exe().unwrap())
                .args(TESTS)
                .args(["--exact", "--test-threads=1"])
                .env("MLX_RANK", rank.to_string())
                .env("MLX_HOSTFILE", hosts.path())
                .env("MLX_WORLD_SIZE", "2")
                .env("NCCL_HOST_IP", "127.0.0.1")
                .env("NCCL_PORT", meeting.to_string())
                .env("CUDA_VISIBLE_DEVICES", rank.to_string())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}
