//! Several models: who is loaded, who has to go, who waits.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::thread;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ends::{long, read_until};
use crate::support::{Server, copy_of_stories};

/// Two models of different names.
struct Two {
    _folders: [TempDir; 2],
    paths: [PathBuf; 2],
}

impl Two {
    fn new() -> Self {
        let [(one, first), (two, second)] = ["one", "two"].map(copy_of_stories);
        Self {
            _folders: [one, two],
            paths: [first, second],
        }
    }

    fn serve(&self, arguments: &[&str]) -> Server {
        let [one, two] = self.paths.each_ref().map(|path| path.to_str().unwrap());
        Server::new(&[&["-m", one, "-m", two], arguments].concat())
    }
}

fn question(model: &str, tokens: usize) -> Value {
    json!({
        "model": model,
        "prompt": "Once upon a time",
        "max_tokens": tokens,
        "stream": tokens > 1,
        "logit_bias": {"0": -100, "2": -100},
    })
}

fn ask(server: &Server, model: &str) -> u16 {
    server.post("/v1/completions", &question(model, 1)).status
}

#[test]
fn a_model_has_the_name_of_its_folder_and_that_which_it_was_named_by() {
    let two = Two::new();
    let server = two.serve(&[]);
    let path = two.paths[1].to_str().unwrap();
    assert_eq!((ask(&server, "two"), ask(&server, path)), (200, 200));
    // No other file can be named.
    assert_eq!(ask(&server, &format!("{path}/")), 404);
}

#[test]
fn a_model_that_dies_takes_no_other_with_it() {
    let two = Two::new();
    let server = two.serve(&[]);
    assert_eq!((ask(&server, "one"), ask(&server, "two")), (200, 200));
    let runners = server.runners();
    assert_eq!(runners.len(), 2);
    let stream = |model| {
        let stream = server.begin(
            "POST",
            "/v1/completions",
            &[],
            &question(model, 500).to_string(),
        );
        read_until(stream, "\"text\":\"")
    };
    let mut streams = ["one", "two"].map(stream);
    kill(runners[0], Signal::SIGKILL).unwrap();
    let ends = streams.each_mut().map(|stream| {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        (rest.contains("[DONE]"), rest.contains("\"error\""))
    });
    assert!(
        ends == [(true, false), (false, true)] || ends == [(false, true), (true, false)],
        "{ends:?}"
    );
    assert_eq!((ask(&server, "one"), ask(&server, "two")), (200, 200));
}

#[test]
fn a_model_waits_until_another_that_is_in_use_is_not() {
    let two = Two::new();
    let server = two.serve(&["--loaded", "1"]);
    let stream = server.begin(
        "POST",
        "/v1/completions",
        &[],
        &question("one", 300).to_string(),
    );
    let mut reader = read_until(stream, "\"text\":\"");
    thread::scope(|scope| {
        let other = scope.spawn(|| ask(&server, "two"));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("[DONE]"));
        assert_eq!(other.join().unwrap(), 200);
    });
    assert_eq!(server.runners().len(), 1);
    // And back, by clients that come at once.
    thread::scope(|scope| {
        let models = ["one", "two", "one", "two", "two", "one"];
        let asked = models.map(|model| {
            let server = &server;
            scope.spawn(move || ask(server, model))
        });
        for asked in asked {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(server.runners().len(), 1);
}

#[test]
fn a_model_is_loaded_once_for_all_who_ask() {
    let server = Server::new(&["--keep-alive", "1s"]);
    thread::scope(|scope| {
        let asked = [(); 8].map(|()| scope.spawn(|| ask(&server, "stories")));
        for asked in asked {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(server.runners().len(), 1);
    server.says("stories: ended");
    assert_eq!(server.runners().len(), 0);
    assert_eq!(ask(&server, "stories"), 200);
}

#[test]
fn who_finds_no_place_is_sent_away() {
    let server = Server::new(&["--queue", "1"]);
    let stream = server.begin(
        "POST",
        "/v1/completions",
        &[],
        &question("stories", 1000).to_string(),
    );
    let mut reader = read_until(stream, "\"text\":\"");
    let refused = server.post("/v1/completions", &question("stories", 1));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.refused(503)["error"]["type"], "overloaded_error");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(ask(&server, "stories"), 200);
}

#[test]
fn a_model_that_cannot_be_loaded_says_why() {
    let two = Two::new();
    fs::write(two.paths[1].join("model.safetensors"), "broken").unwrap();
    let server = two.serve(&[]);
    let refused = server
        .post("/v1/completions", &question("two", 1))
        .refused(500);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("two could not be loaded: "),
        "{message}"
    );
    assert!(message.contains("model.safetensors"), "{message}");
    assert_eq!(ask(&server, "one"), 200);
    server.says("error: two could not be loaded: ");
    let failures = server.get("/metrics").body;
    assert!(failures.contains("mlxr_failures_total 1\n"), "{failures}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_server_whose_model_cannot_be_loaded_is_not_healthy() {
    let two = Two::new();
    let weights = two.paths[0].join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, "broken").unwrap();
    let server = two.serve(&[]);
    server.says("error: one could not be loaded: ");
    let refused = server.get("/health").refused(503);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("model.safetensors"), "{message}");
    // Whoever mends it need not start the server again.
    fs::write(&weights, whole).unwrap();
    assert_eq!(ask(&server, "one"), 200);
    assert_eq!(server.get("/health").status, 200);
}

/// How much each loaded model may take, by its name.
fn limits(server: &Server) -> Vec<(String, u64)> {
    let held = server.get("/cache").json();
    let models = held["models"].as_array().unwrap().iter();
    let mut limits: Vec<(String, u64)> = models
        .map(|model| {
            let name = model["model"].as_str().unwrap();
            (
                name.to_owned(),
                model["memory_bytes_limit"].as_u64().unwrap(),
            )
        })
        .collect();
    limits.sort();
    limits
}

#[test]
fn models_that_are_loaded_together_share_the_memory() {
    let two = Two::new();
    let server = two.serve(&["--memory", "600MiB"]);
    assert_eq!((ask(&server, "one"), ask(&server, "two")), (200, 200));
    let [(_, one), (_, other)] = limits(&server).try_into().unwrap();
    assert_eq!(one + other, 600 << 20);
    // Where nobody says how much, they share what there is.
    let server = two.serve(&[]);
    assert_eq!((ask(&server, "one"), ask(&server, "two")), (200, 200));
    let [(_, one), (_, other)] = limits(&server).try_into().unwrap();
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    assert!(one + other < system.total_memory(), "{one} and {other}");
}

#[test]
fn a_model_that_is_idle_goes_for_one_that_does_not_fit_beside_it() {
    let two = Two::new();
    // Enough for one and a half.
    let server = two.serve(&["--memory", "6500KiB"]);
    let load = |model: &str| {
        let loaded = server.post("/api/generate", &json!({"model": model}));
        (loaded.status, limits(&server))
    };
    let (status, limits) = load("one");
    assert_eq!((status, &*limits[0].0, limits.len()), (200, "one", 1));
    let (status, limits) = load("two");
    assert_eq!((status, &*limits[0].0, limits.len()), (200, "two", 1));
    assert_eq!(server.runners().len(), 1);
}

#[test]
fn a_model_that_fits_nowhere_says_what_it_takes() {
    let two = Two::new();
    let server = two.serve(&["--memory", "1MiB"]);
    let refused = server.post("/v1/completions", &question("one", 1));
    let refused = refused.refused(500);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("the weights take 4.2 MiB"), "{message}");
}

#[test]
#[cfg(target_os = "linux")]
fn several_processes_answer_as_one_and_end_together() {
    let asked = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 40, "temperature": 0});
    let answer = |server: &Server| {
        let answered = server.post("/v1/chat/completions", &asked);
        answered.json()["choices"][0]["message"]["content"].clone()
    };
    let alone = Server::new(&["--cpu-exact"]);
    let together = Server::new(&["--cpu-exact", "--ranks", "2"]);
    let expected = answer(&alone);
    assert_eq!(answer(&together), expected);
    // What the server started has not the model itself: those that have it end with it.
    let [launcher] = together.runners()[..] else {
        panic!("{:?}", together.runners());
    };
    let ranks = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    assert_eq!(ranks.split_whitespace().count(), 2, "{ranks}");
    let body = long("openai").to_string();
    let stream = together.begin("POST", "/v1/chat/completions", &[], &body);
    let mut reader = read_until(stream, "\"content\":\"");
    kill(launcher, Signal::SIGKILL).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("\"error\"") && !rest.contains("[DONE]"),
        "{rest}"
    );
    for rank in ranks.split_whitespace() {
        let is_there = || {
            let status = fs::read_to_string(format!("/proc/{rank}/status"));
            status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        while is_there() {
            thread::yield_now();
        }
    }
}
