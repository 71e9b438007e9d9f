//! Checkpoints computed by two processes together: the same tests, in processes that are told of each other.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};

use mlxr::mlx::Group;

use super::on;

/// The processes of which this is one, where there are several.
pub(super) fn group() -> Option<&'static Arc<Group>> {
    static GROUP: OnceLock<Option<Arc<Group>>> = OnceLock::new();
    let join = || {
        std::env::var_os("MLX_RANK")?;
        Some(Arc::new(Group::join().unwrap()))
    };
    GROUP.get_or_init(join).as_ref()
}

#[test]
fn two_processes_compute_what_the_reference_does() {
    // GPUs reach each other in another way.
    if group().is_some() || on("gpu") {
        return;
    }
    let listeners = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let addresses = listeners.each_ref().map(|listener| {
        let address = listener.local_addr().unwrap();
        format!("[\"{address}\"]")
    });
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), format!("[{}]", addresses.join(","))).unwrap();
    drop(listeners);
    let children: Vec<Child> = (0..2)
        .map(|rank| {
            Command::new(std::env::current_exe().unwrap())
                .args(["whole_prompts_match_the_reference", "--exact"])
                .env("MLX_RANK", rank.to_string())
                .env("MLX_HOSTFILE", hosts.path())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}
