//! Each step of the search, on folders made for it.

use std::fs;
use std::slice;

use super::*;

const LINUX: Machine = Machine {
    nvidia: false,
    macos: None,
};
const NVIDIA: Machine = Machine {
    nvidia: true,
    macos: None,
};

fn search(root: &Path, machine: Machine, gpu: Option<bool>) -> Search {
    Search {
        explicit: None,
        gpu,
        roots: vec![root.to_path_buf()],
        machine,
    }
}

fn root_with(names: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in names {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    root
}

/// The variant folders that are tried, without the bare name that comes first.
fn variants(search: &Search) -> Vec<String> {
    search.places()[1..]
        .iter()
        .map(|place| name_of(place.parent().unwrap()))
        .collect()
}

const ALL: &[&str] = &[
    "mlx_cpu",
    "mlx_cuda_v12",
    "mlx_cuda_v13",
    "mlx_metal_v3",
    "mlx_metal_v4",
    "other",
];

#[test]
fn the_bare_name_comes_before_the_folders() {
    let root = root_with(&["mlx_cpu"]);
    let places = search(root.path(), LINUX, None).places();
    assert_eq!(
        places,
        [
            PathBuf::from(LIBRARY),
            root.path().join("mlx_cpu").join(LIBRARY)
        ]
    );
}

#[test]
fn an_explicit_setting_is_the_only_place() {
    let root = root_with(&["mlx_cpu"]);
    let mut search = search(root.path(), LINUX, None);
    search.explicit = Some(root.path().to_path_buf());
    let variant = root.path().join("mlx_cpu").join(LIBRARY);
    assert_eq!(
        search.places(),
        slice::from_ref(&variant),
        "a folder of variants"
    );
    fs::write(root.path().join(LIBRARY), "").unwrap();
    assert_eq!(
        search.places(),
        [root.path().join(LIBRARY), variant],
        "its own goes first"
    );
    let empty = tempfile::tempdir().unwrap();
    search.explicit = Some(empty.path().to_path_buf());
    assert_eq!(
        search.places(),
        [empty.path().join(LIBRARY)],
        "a folder without any is named"
    );
    let file = root.path().join("libother.so");
    search.explicit = Some(file.clone());
    assert_eq!(search.places(), [file]);
}

#[test]
fn variants_that_cannot_run_here_are_left_out() {
    let root = root_with(ALL);
    assert_eq!(variants(&search(root.path(), LINUX, None)), ["mlx_cpu"]);
    assert_eq!(
        variants(&search(root.path(), NVIDIA, None)),
        ["mlx_cuda_v13", "mlx_cuda_v12", "mlx_cpu"]
    );
    let mac = |version| Machine {
        nvidia: false,
        macos: Some(version),
    };
    assert_eq!(
        variants(&search(root.path(), mac(15), None)),
        ["mlx_metal_v3", "mlx_cpu"]
    );
    assert_eq!(
        variants(&search(root.path(), mac(26), None)),
        ["mlx_metal_v4", "mlx_metal_v3", "mlx_cpu"]
    );
}

#[test]
fn the_device_asked_for_orders_the_variants() {
    let root = root_with(ALL);
    assert_eq!(
        variants(&search(root.path(), NVIDIA, Some(true))),
        ["mlx_cuda_v13", "mlx_cuda_v12"]
    );
    assert_eq!(
        variants(&search(root.path(), NVIDIA, Some(false)))[0],
        "mlx_cpu"
    );
}

#[test]
fn the_folder_beside_the_executable_comes_before_the_build_folder() {
    let roots = Search::new(None, None).roots;
    assert!(roots[0].ends_with("lib/mlxr"), "{roots:?}");
    assert_eq!(
        roots.get(1),
        option_env!("MLXR_BUILT_LIBRARIES")
            .map(PathBuf::from)
            .as_ref()
    );
}

#[test]
fn failures_are_silent_and_listed_at_the_end() {
    let root = root_with(&["mlx_cpu", "mlx_cuda_v13"]);
    let broken = root.path().join("mlx_cpu").join(LIBRARY);
    fs::write(&broken, "not a library").unwrap();
    let mut search = search(root.path(), NVIDIA, None);
    let attempts = search
        .places()
        .iter()
        .skip(1)
        .map(|place| open(place).err().expect("nothing there serves"))
        .collect::<Vec<_>>();
    assert!(
        attempts[0].contains("No such file") || attempts[0].contains("no such file"),
        "{attempts:?}"
    );
    assert!(
        attempts[1].contains("too short") || attempts[1].contains("not a"),
        "{attempts:?}"
    );
    search.explicit = Some(broken.clone());
    let attempts = load(&search).expect_err("not a library");
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].place, broken.display().to_string());
}

#[test]
fn a_library_without_the_functions_is_refused() {
    let libc = if cfg!(target_os = "macos") {
        "libSystem.B.dylib"
    } else {
        "libc.so.6"
    };
    let reason = open(Path::new(libc)).err().expect("libc is not MLX");
    assert!(reason.starts_with("it has no function "), "{reason}");
}
