//! Folders, names, the layout of the cache, and what a complete or incomplete copy does.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

use mlxr::Error;
use mlxr::files::ModelFiles;
use mlxr::hub::{HubSettings, resolve};
use mlxr::progress::{Progress, Silent};

use super::server::{COMMIT, REPOSITORY, Server, etag};
use super::{
    FOLDER, INDEX, Recorder, SHARDS, WEIGHTS, blob, bodies, fetch, folder, offline, settings,
    sharded, single,
};

#[test]
fn a_folder_is_used_where_it_is() {
    let server = Server::new(single());
    let temporary = tempfile::tempdir().unwrap();
    let settings = settings(&server, &temporary.path().join("cache"));
    let model = temporary.path().join("model");
    let name = model.to_str().unwrap();

    let missing = resolve(name, &settings, &Silent).unwrap_err();
    assert!(matches!(missing, Error::ModelNotFound { .. }), "{missing}");
    assert!(
        missing.to_string().ends_with("there is no such folder"),
        "{missing}"
    );

    fs::create_dir(&model).unwrap();
    let bare = resolve(name, &settings, &Silent).unwrap_err();
    assert!(
        matches!(&bare, Error::MissingFile { file, .. } if file == "config.json"),
        "{bare}"
    );

    fs::write(model.join("config.json"), "{}").unwrap();
    let found = resolve(name, &settings, &Silent).unwrap();
    assert_eq!(found, ModelFiles::Folder(model.clone()));

    let file = model.join("config.json");
    let error = resolve(file.to_str().unwrap(), &settings, &Silent).unwrap_err();
    assert!(matches!(error, Error::ModelNotFound { .. }), "{error}");
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_neither_folder_nor_name_is_refused_without_a_request() {
    let server = Server::new(single());
    let cache = tempfile::tempdir().unwrap();
    for name in [
        "",
        "./nowhere",
        "../nowhere",
        "~/nowhere",
        "nowhere",
        "a/b/c",
        "org/../x",
        "org/x@../y",
    ] {
        let error = resolve(name, &settings(&server, cache.path()), &Silent).unwrap_err();
        assert!(
            matches!(error, Error::ModelNotFound { .. }),
            "{name}: {error}"
        );
    }
    assert!(server.requests().is_empty());
}

#[test]
fn downloads_into_the_standard_layout() {
    let content = single();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let snapshot = folder(resolve(
        REPOSITORY,
        &settings(&server, cache.path()),
        &recorder,
    ))
    .unwrap();

    let repository = cache.path().join(FOLDER);
    assert_eq!(snapshot, repository.join("snapshots").join(COMMIT));
    assert_eq!(
        fs::read_to_string(repository.join("refs/main")).unwrap(),
        COMMIT
    );
    let mut names = fs::read_dir(&snapshot)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            WEIGHTS,
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    for name in &names {
        assert_eq!(
            fs::read(snapshot.join(name)).unwrap(),
            content[name],
            "{name}"
        );
        let target = fs::read_link(snapshot.join(name)).unwrap();
        assert_eq!(target, Path::new("../../blobs").join(etag(&content[name])));
    }
    assert_eq!(
        fs::read_dir(repository.join("blobs")).unwrap().count(),
        names.len()
    );

    let lines = recorder.lines();
    let size = content[WEIGHTS].len();
    assert!(
        lines.contains(&format!("start {WEIGHTS} Some({size}) Bytes")),
        "{lines:?}"
    );
    let end = [
        format!("advance {WEIGHTS} {size}"),
        format!("finish {WEIGHTS}"),
    ];
    assert_eq!(lines[lines.len() - 2..], end, "the weights come last");
}

#[test]
fn the_token_goes_to_the_hub_and_no_further() {
    let server = Server::new(single());
    let cache = tempfile::tempdir().unwrap();
    fetch(&server, &cache).unwrap();
    let requests = server.requests();
    let (away, hub): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.path.starts_with("/storage/"));
    assert!(!away.is_empty());
    assert!(away.iter().all(|request| request.authorization.is_none()));
    assert!(
        hub.iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer secret"))
    );
}

#[test]
fn a_complete_copy_needs_no_network() {
    let server = Server::plain(sharded());
    let cache = tempfile::tempdir().unwrap();
    let first = fetch(&server, &cache).unwrap();
    assert_eq!(fs::read_dir(&first).unwrap().count(), 5);
    assert!(!server.requests().is_empty());

    let named = format!("{REPOSITORY}@{COMMIT}");
    for name in [REPOSITORY, named.as_str()] {
        for settings in [
            settings(&server, cache.path()),
            offline(&server, cache.path()),
        ] {
            assert_eq!(folder(resolve(name, &settings, &Silent)).unwrap(), first);
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn revisions_are_tags_pull_requests_and_commits() {
    let server = Server::new(single());
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&server, cache.path());
    for revision in ["v1", "refs/pr/1"] {
        let name = format!("{REPOSITORY}@{revision}");
        folder(resolve(&name, &settings, &Silent)).unwrap();
        let reference = cache.path().join(FOLDER).join("refs").join(revision);
        assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    }
    let fresh = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        cache: fresh.path().to_path_buf(),
        ..settings
    };
    let snapshot = folder(resolve(
        &format!("{REPOSITORY}@{COMMIT}"),
        &settings,
        &Silent,
    ))
    .unwrap();
    assert!(snapshot.ends_with(COMMIT));
    assert!(!fresh.path().join(FOLDER).join("refs").exists());
}

#[test]
fn an_incomplete_copy_is_named_and_only_the_missing_part_is_fetched() {
    let content = sharded();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    let snapshot = fetch(&server, &cache).unwrap();
    let damaged = blob(&cache, &content[SHARDS[1]]);
    let length = content[SHARDS[1]].len() as u64;
    let truncate = |to| {
        fs::File::options()
            .write(true)
            .open(&damaged)
            .unwrap()
            .set_len(to)
            .unwrap();
    };
    let breakages: [(&str, &str, &dyn Fn()); 5] = [
        (SHARDS[1], "is damaged", &|| truncate(length - 1)),
        (SHARDS[1], "is damaged", &|| truncate(3)),
        (SHARDS[1], "is missing", &|| {
            fs::remove_file(&damaged).unwrap();
        }),
        (SHARDS[0], "is missing", &|| {
            fs::remove_file(snapshot.join(SHARDS[0])).unwrap();
        }),
        ("tokenizer.json", "is missing", &|| {
            fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
        }),
    ];
    for (file, problem, damage) in breakages {
        damage();
        server.requests();
        let error = resolve(REPOSITORY, &offline(&server, cache.path()), &Silent).unwrap_err();
        assert!(
            matches!(&error, Error::Offline { missing, .. } if missing == file),
            "{error}"
        );
        assert!(server.requests().is_empty());

        let recorder = Recorder::default();
        resolve(REPOSITORY, &settings(&server, cache.path()), &recorder).unwrap();
        let notice = format!(
            "notice the copy of {REPOSITORY} in the cache is incomplete: {file} {problem}; fetching what is missing"
        );
        assert_eq!(recorder.lines()[0], notice);
        let requests = server.requests();
        for other in content.keys().filter(|other| *other != file) {
            let end = format!("/{other}");
            assert!(
                !requests.iter().any(|request| request.path.ends_with(&end)),
                "{other}: {requests:?}"
            );
        }
        assert_eq!(fs::read(snapshot.join(file)).unwrap(), content[file]);
    }
}

#[test]
fn offline_names_the_first_file_that_is_missing() {
    let server = Server::new(single());
    let cache = tempfile::tempdir().unwrap();
    let error = resolve(REPOSITORY, &offline(&server, cache.path()), &Silent).unwrap_err();
    assert_eq!(
        error.to_string(),
        "org/tiny: offline, and config.json is not in the cache"
    );
    assert!(server.requests().is_empty());
    assert_eq!(
        fs::read_dir(cache.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}

#[test]
fn a_repository_that_is_no_model_is_refused_before_anything_is_fetched() {
    for absent in ["config.json", "tokenizer.json", WEIGHTS] {
        let mut content = single();
        content.remove(absent);
        let server = Server::new(content);
        let cache = tempfile::tempdir().unwrap();
        let error = fetch(&server, &cache).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no model `org/tiny`: the repository has no {absent}")
        );
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn weights_that_contradict_themselves_are_an_error() {
    let mut lying = single();
    lying.get_mut(WEIGHTS).unwrap().pop();
    let mut absent = sharded();
    absent.remove(SHARDS[1]);
    let mut outside = sharded();
    outside.insert(
        INDEX.to_owned(),
        br#"{"weight_map":{"w":"../../x.safetensors"}}"#.to_vec(),
    );
    let cases = [
        (lying, "the file is not as long as its header says"),
        (
            absent,
            "`weight_map` names model-00002-of-00002.safetensors, which the repository lacks",
        ),
        (
            outside,
            "`../../x.safetensors` is not the name of a safetensors file",
        ),
    ];
    for (content, problem) in cases {
        let server = Server::new(content);
        let error = fetch(&server, &tempfile::tempdir().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Weights { .. }), "{error}");
        assert!(error.to_string().ends_with(problem), "{error}");
    }
}

#[test]
fn downloads_at_the_same_time_fetch_each_file_once() {
    let content = single();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let runs = [(); 4].map(|()| scope.spawn(|| fetch(&server, &cache)));
        for run in runs {
            let snapshot = run.join().unwrap().unwrap();
            assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), content[WEIGHTS]);
        }
    });
    assert_eq!(bodies(&server.requests(), "/storage/").len(), 1);
}

#[test]
fn a_download_by_another_process_is_waited_for() {
    struct Waiting(Mutex<mpsc::Sender<String>>);
    impl Progress for Waiting {
        fn notice(&self, sentence: &str) {
            self.0.lock().unwrap().send(sentence.to_owned()).unwrap();
        }
    }
    let content = single();
    let server = Server::new(content.clone());
    let cache = tempfile::tempdir().unwrap();
    let locks = cache.path().join(".locks").join(FOLDER);
    fs::create_dir_all(&locks).unwrap();
    let held = fs::File::create(locks.join(format!("{}.lock", etag(&content[WEIGHTS])))).unwrap();
    held.lock().unwrap();

    let (sender, notices) = mpsc::channel();
    let waiting = Waiting(Mutex::new(sender));
    let settings = settings(&server, cache.path());
    thread::scope(|scope| {
        let run = scope.spawn(move || resolve(REPOSITORY, &settings, &waiting));
        let sentence = notices.recv().unwrap();
        assert_eq!(
            sentence,
            format!("waiting for another process that downloads {WEIGHTS}")
        );
        // The other process is done: the file is there.
        fs::write(blob(&cache, &content[WEIGHTS]), &content[WEIGHTS]).unwrap();
        drop(held);
        run.join().unwrap().unwrap();
    });
    assert!(bodies(&server.requests(), "/storage/").is_empty());
}
