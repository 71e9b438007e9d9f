//! Many clients at once, some of which leave: everybody gets the answer that they would get alone.
//!
//! `MLXR_TEST_LOAD=64x600` has 64 clients ask for 600 seconds; `MLXR_TEST_MODEL` names another model than the
//! built-in one.

use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sysinfo::{Pid, ProcessesToUpdate, System};

use crate::support::Server;

/// The prompts, each of which is asked with several seeds.
const SUBJECTS: [&str; 6] = [
    "a whale",
    "two friends",
    "the sea",
    "a little dog",
    "a big tree",
    "a red car",
];

/// Memory that the server is given, in MiB.
const MEMORY: usize = 256;

/// How long nothing may be heard of an answer that has begun.
const STALL: Duration = Duration::from_secs(2);

/// What one answer was like.
struct Told {
    text: String,
    first: Duration,
    longest_gap: Duration,
}

fn question(number: usize) -> Value {
    let subject = SUBJECTS[number % SUBJECTS.len()];
    json!({
        "messages": [{"role": "user", "content": format!("Tell me a story about {subject}")}],
        "seed": number,
        "max_tokens": 20 + 7 * (number % 11),
        "stream": true,
    })
}

/// Asks, and reads the answer, or as many pieces of it as are `wanted`.
fn ask(server: &Server, question: &Value, wanted: usize) -> Option<Told> {
    let begin = Instant::now();
    let stream = server.begin("POST", "/v1/chat/completions", &[], &question.to_string());
    let mut told = Told {
        text: String::new(),
        first: Duration::ZERO,
        longest_gap: Duration::ZERO,
    };
    let (mut last, mut pieces) = (begin, 0);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            return Some(told);
        }
        let data: Value = serde_json::from_str(data).unwrap();
        let Some(piece) = data["choices"][0]["delta"]["content"].as_str() else {
            assert!(data.get("error").is_none(), "{data}");
            continue;
        };
        if pieces == 1 {
            told.first = begin.elapsed();
        } else if pieces > 1 {
            told.longest_gap = told.longest_gap.max(last.elapsed());
        }
        (last, pieces) = (Instant::now(), pieces + 1);
        told.text += piece;
        if pieces > wanted {
            return None;
        }
    }
    panic!("an answer without an end: {}", told.text)
}

/// The share of `sorted` times that lies below.
fn percentile(sorted: &[Duration], share: usize) -> Duration {
    sorted[(sorted.len() - 1) * share / 100]
}

#[test]
fn everybody_gets_the_answer_that_they_would_get_alone() {
    let asked = std::env::var("MLXR_TEST_LOAD").unwrap_or_else(|_| "12x6".to_owned());
    let (clients, seconds) = asked.split_once('x').unwrap();
    let (clients, seconds): (usize, u64) = (clients.parse().unwrap(), seconds.parse().unwrap());
    let memory = format!("{MEMORY}MiB");
    let mut arguments = vec!["--cpu-exact", "--memory", &memory];
    let model = std::env::var("MLXR_TEST_MODEL").ok();
    arguments.extend(model.iter().flat_map(|model| ["-m", model]));
    let server = Server::new(&arguments);
    let alone: Vec<String> = (0..4 * SUBJECTS.len())
        .map(|number| ask(&server, &question(number), usize::MAX).unwrap().text)
        .collect();

    let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let told = Mutex::new(Vec::new());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let most_resident = thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    // A sequence without an order that matters.
                    let drawn = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                    let number = drawn % alone.len();
                    let leaves = drawn / 64 % 3 == 0;
                    let wanted = if leaves {
                        drawn / 1024 % 16
                    } else {
                        usize::MAX
                    };
                    match ask(&server, &question(number), wanted) {
                        Some(answer) => {
                            assert_eq!(answer.text, alone[number]);
                            told.lock()
                                .unwrap()
                                .push((answer.first, answer.longest_gap));
                        }
                        None => drop(left.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
        watch(&server, deadline)
    });
    let (mut first, mut gaps): (Vec<_>, Vec<_>) = told.into_inner().unwrap().into_iter().unzip();
    first.sort_unstable();
    gaps.sort_unstable();
    println!(
        "{clients} clients, {seconds} s: {} answers ({:.1} a second), {} left; time to first token p50 {:?} p90 {:?} \
         p99 {:?}; longest gap p50 {:?} p99 {:?} most {:?}; most resident {} MiB",
        first.len(),
        first.len() as f64 / seconds as f64,
        left.into_inner(),
        percentile(&first, 50),
        percentile(&first, 90),
        percentile(&first, 99),
        percentile(&gaps, 50),
        percentile(&gaps, 99),
        percentile(&gaps, 100),
        most_resident >> 20,
    );
    assert!(percentile(&gaps, 100) < STALL);
    assert!(most_resident < MEMORY << 20);
}

/// The most memory that the runner has until `deadline`.
fn watch(server: &Server, deadline: Instant) -> usize {
    let runner = Pid::from_u32(server.runners()[0].as_raw().try_into().unwrap());
    let mut system = System::new();
    let mut most = 0;
    while Instant::now() < deadline {
        system.refresh_processes(ProcessesToUpdate::Some(&[runner]), true);
        let memory = system.process(runner).unwrap().memory();
        most = most.max(usize::try_from(memory).unwrap());
        thread::sleep(Duration::from_millis(20));
    }
    most
}
