//! Connections that drop, hubs that refuse or lie, disks that are full.

use std::fs;
use std::net::TcpListener;

use mlxr::Error;
use mlxr::hub::{HubSettings, resolve};
use mlxr::progress::Silent;

use super::server::{Fault, REPOSITORY, Server};
use super::{Recorder, WEIGHTS, blob, bodies, fetch, offline, partial, settings, single};

/// Where the server keeps the bytes of the weights.
const STORAGE: &str = "/storage/";

/// The range of a request for the whole file: none.
const WHOLE: &str = "";

/// The range of a request for what follows.
fn range(start: usize) -> String {
    format!("bytes={start}-")
}

#[test]
fn a_dropped_connection_is_continued_at_once() {
    let content = single();
    for server in [Server::new(content.clone()), Server::plain(content.clone())] {
        let cache = tempfile::tempdir().unwrap();
        // More drops than attempts: each of them still brings bytes.
        for _ in 0..5 {
            server.fault(WEIGHTS, Fault::Drop(50_000));
        }
        let snapshot = fetch(&server, &cache).unwrap();
        assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), content[WEIGHTS]);
        let ranges = bodies(&server.requests(), WEIGHTS);
        let resumed = (1..=5).map(|count| range(count * 50_000));
        assert_eq!(ranges[0], WHOLE);
        assert_eq!(ranges[1..], resumed.collect::<Vec<_>>());
        assert!(!partial(&cache, &content[WEIGHTS]).exists());
    }
}

#[test]
fn an_interrupted_download_is_continued_by_the_next_run() {
    let content = single();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    for length in [1000, 0, 0, 0] {
        server.fault(WEIGHTS, Fault::Drop(length));
    }
    let error = fetch(&server, &cache).unwrap_err();
    assert!(matches!(error, Error::Hub { .. }), "{error}");
    let size = content[WEIGHTS].len();
    let start = format!("org/tiny: {WEIGHTS} ended after 1000 of {size} bytes: ");
    assert!(error.to_string().starts_with(&start), "{error}");
    assert_eq!(
        fs::metadata(partial(&cache, &content[WEIGHTS]))
            .unwrap()
            .len(),
        1000
    );
    assert!(!blob(&cache, &content[WEIGHTS]).exists());
    server.requests();

    let error = resolve(REPOSITORY, &offline(&server, cache.path()), &Silent).unwrap_err();
    assert!(
        matches!(&error, Error::Offline { missing, .. } if missing == WEIGHTS),
        "{error}"
    );

    let recorder = Recorder::default();
    resolve(REPOSITORY, &settings(&server, cache.path()), &recorder).unwrap();
    assert_eq!(bodies(&server.requests(), STORAGE), [range(1000)]);
    assert_eq!(
        fs::read(blob(&cache, &content[WEIGHTS])).unwrap(),
        content[WEIGHTS]
    );
    let lines = recorder.lines();
    assert!(
        lines[0].contains("incomplete: model.safetensors is missing"),
        "{lines:?}"
    );
    assert_eq!(
        lines[2],
        format!("advance {WEIGHTS} 1000"),
        "progress starts where it was"
    );
}

#[test]
fn what_a_killed_process_leaves_is_used() {
    let content = single();
    let size = content[WEIGHTS].len();
    let mut longer = content[WEIGHTS].clone();
    longer.push(0);
    // Killed before the first byte, at some byte, before the last one, before the rename; and a
    // file that cannot be a beginning of this one.
    let cases = [
        (&longer[..0], vec![WHOLE.to_owned()]),
        (&longer[..1], vec![range(1)]),
        (&longer[..size - 1], vec![range(size - 1)]),
        (&longer[..size], vec![]),
        (&longer[..], vec![WHOLE.to_owned()]),
    ];
    for (left, asked) in cases {
        let server = Server::new(content.clone());
        let cache = tempfile::tempdir().unwrap();
        let path = partial(&cache, &content[WEIGHTS]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, left).unwrap();
        let snapshot = fetch(&server, &cache).unwrap();
        assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), content[WEIGHTS]);
        assert_eq!(
            bodies(&server.requests(), STORAGE),
            asked,
            "{} bytes left",
            left.len()
        );
    }
}

#[test]
fn a_hub_without_ranges_starts_over() {
    let content = single();
    for fault in [Fault::IgnoreRange, Fault::RefuseRange] {
        let server = Server::new(content.clone());
        let cache = tempfile::tempdir().unwrap();
        server.fault(WEIGHTS, Fault::Drop(100_000));
        server.fault(WEIGHTS, fault);
        let snapshot = fetch(&server, &cache).unwrap();
        assert_eq!(
            fs::read(snapshot.join(WEIGHTS)).unwrap(),
            content[WEIGHTS],
            "{fault:?}"
        );
        assert_eq!(
            bodies(&server.requests(), STORAGE)[..2],
            [WHOLE.to_owned(), range(100_000)]
        );
    }
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    let content = single();
    let size = content[WEIGHTS].len();
    for (length, requests, problem) in [
        (
            size + 1,
            1,
            format!("has more than the {size} bytes that the hub announced"),
        ),
        (
            size - 1,
            4,
            format!(
                "ended after {} of {size} bytes: the hub sent no more",
                size - 1
            ),
        ),
    ] {
        let server = Server::new(content.clone());
        let cache = tempfile::tempdir().unwrap();
        for _ in 0..requests {
            server.fault(WEIGHTS, Fault::Length(length));
        }
        let error = fetch(&server, &cache).unwrap_err();
        assert!(matches!(error, Error::Hub { .. }), "{error}");
        assert!(error.to_string().contains(&problem), "{error}");
        assert!(!blob(&cache, &content[WEIGHTS]).exists());
        fetch(&server, &cache).unwrap();
        assert_eq!(
            fs::read(blob(&cache, &content[WEIGHTS])).unwrap(),
            content[WEIGHTS]
        );
    }
}

#[test]
fn refusals_say_what_the_hub_said() {
    for (code, said, refused, sentence) in [
        (
            401,
            "Invalid credentials.",
            true,
            "org/tiny: the hub answered 401: Invalid credentials",
        ),
        (
            403,
            "",
            true,
            "org/tiny: the hub answered 403: said in the body",
        ),
        (
            404,
            "Repository not found",
            true,
            "org/tiny: the hub answered 404: Repository not found",
        ),
        (
            500,
            "",
            false,
            "org/tiny: the hub answered 500: said in the body",
        ),
        (503, "Busy", false, "org/tiny: the hub answered 503: Busy"),
    ] {
        for place in ["/revision/", "tokenizer.json", WEIGHTS] {
            let server = Server::new(single());
            server.fault(place, Fault::Status(code, said));
            let cache = tempfile::tempdir().unwrap();
            let error = fetch(&server, &cache).unwrap_err();
            assert_eq!(
                matches!(error, Error::HubRefused { .. }),
                refused,
                "{error:?}"
            );
            assert_eq!(matches!(error, Error::Hub { .. }), !refused, "{error:?}");
            assert_eq!(error.to_string(), sentence);
            fetch(&server, &cache).unwrap();
        }
    }
}

#[test]
fn a_revision_that_the_hub_does_not_have_is_refused() {
    let server = Server::new(single());
    let cache = tempfile::tempdir().unwrap();
    let name = format!("{REPOSITORY}@nope");
    let error = resolve(&name, &settings(&server, cache.path()), &Silent).unwrap_err();
    assert!(matches!(error, Error::HubRefused { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "org/tiny@nope: the hub answered 404: Invalid rev id: nope"
    );
}

#[test]
fn no_connection_is_an_error_that_names_the_hub() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let cache = tempfile::tempdir().unwrap();
    for endpoint in [format!("http://{closed}"), "nonsense".to_owned()] {
        let settings = HubSettings {
            cache: cache.path().to_path_buf(),
            token: None,
            endpoint: endpoint.clone(),
            offline: false,
        };
        let error = resolve(REPOSITORY, &settings, &Silent).unwrap_err();
        assert!(matches!(error, Error::Hub { .. }), "{error}");
        let start = format!("org/tiny: could not reach {endpoint}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_its_path() {
    let server = Server::new(single());
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    fs::write(&file, "").unwrap();
    let error = resolve(REPOSITORY, &settings(&server, &file.join("cache")), &Silent).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path.starts_with(&file)),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_the_path() {
    let content = single();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    let path = partial(&cache, &content[WEIGHTS]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let error = fetch(&server, &cache).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path: named, .. } if *named == path),
        "{error}"
    );
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(!blob(&cache, &content[WEIGHTS]).exists());
}
