//! Man pages: what clap tells of a command, and behind it what it does not: examples, exit codes, environment, files.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::args::Cli;
use crate::settings::Settings;
use crate::ui::Exit;

/// What each page shows: a command line, and what comes of it.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "mlxr",
        &[
            (
                "mlxr run \"Tell me a story about a whale\"",
                "An answer of the built-in model.",
            ),
            (
                "mlxr serve -m Qwen/Qwen3-0.6B",
                "A server for clients of OpenAI, Anthropic and Ollama.",
            ),
            ("mlxr doctor", "What there is to compute with."),
        ],
    ),
    (
        "mlxr-run",
        &[
            (
                "mlxr run -t 0 \"Name three rivers\"",
                "Always the likeliest token.",
            ),
            (
                "git diff | mlxr run -m Qwen/Qwen3-0.6B \"Summarize this change in one sentence\"",
                "What is piped comes before the words.",
            ),
            (
                "mlxr run --choices yes,no \"Is a tomato a fruit?\"",
                "One of the choices and nothing else.",
            ),
            (
                "mlxr run --schema person.json \"Olga is 41 years old\"",
                "JSON of a schema; exit code 3 where it was cut off.",
            ),
            (
                "cat requests.jsonl | mlxr run --jsonl",
                "A line of JSON for each line, computed together.",
            ),
            (
                "cat book.txt | mlxr run --cache \"Who is the murderer?\"",
                "The next question of the same text goes on from there.",
            ),
        ],
    ),
    (
        "mlxr-serve",
        &[
            (
                "mlxr serve -m Qwen/Qwen3-0.6B -p 9000",
                "One model, loaded at once.",
            ),
            (
                "mlxr serve --keep-alive 10m --loaded 2",
                "All models of the cache, each when it is asked for.",
            ),
        ],
    ),
    (
        "mlxr-tokenize",
        &[
            (
                "mlxr tokenize --count -f book.txt",
                "How many tokens a file has.",
            ),
            (
                "mlxr tokenize --ids < in.txt | mlxr tokenize --decode",
                "Every byte comes back.",
            ),
            (
                "mlxr tokenize --split 512 --overlap 64 -f book.txt",
                "Parts that are cut where tokens end.",
            ),
        ],
    ),
    (
        "mlxr-quantize",
        &[
            (
                "mlxr quantize Qwen/Qwen3-0.6B -o qwen3-4bit",
                "4 bits in groups of 64.",
            ),
            (
                "mlxr quantize DIR -o small --report --max-kld 0.02",
                "Tells what was lost; exit code 1 where it is more.",
            ),
            (
                "mlxr quantize --verify small",
                "Shapes, scales and digests.",
            ),
        ],
    ),
    (
        "mlxr-bench",
        &[
            (
                "mlxr bench -m Qwen/Qwen3-0.6B",
                "A prompt of 512 tokens, and 128 generated ones.",
            ),
            (
                "mlxr bench --random llama-3.1-8b --quant mxfp4",
                "A known shape with made-up weights.",
            ),
            (
                "mlxr bench --baseline old.json --fail-if \"tg<-3%\"",
                "Exit code 1 where generating became slower.",
            ),
        ],
    ),
    (
        "mlxr-bench-start",
        &[(
            "mlxr bench start -m Qwen/Qwen3-0.6B",
            "From the start of the program to its first token.",
        )],
    ),
    (
        "mlxr-bench-cache",
        &[(
            "mlxr bench cache -m Qwen/Qwen3-0.6B",
            "Prompts that begin as earlier ones did.",
        )],
    ),
    (
        "mlxr-bench-tokenize",
        &[(
            "mlxr bench tokenize -m Qwen/Qwen3-0.6B -f book.txt",
            "Text to tokens and back, beside the reference.",
        )],
    ),
    (
        "mlxr-cache",
        &[
            ("mlxr cache ls", "Downloaded models and kept prompts."),
            ("mlxr cache prune --unused 30days --to 5GiB", "Makes room."),
        ],
    ),
    (
        "mlxr-cache-ls",
        &[("mlxr cache ls --json", "The same for a program.")],
    ),
    (
        "mlxr-cache-inspect",
        &[
            (
                "mlxr cache inspect --text",
                "Which prompts are kept, and how they begin.",
            ),
            (
                "mlxr cache inspect http://localhost:8080",
                "What a server holds.",
            ),
        ],
    ),
    (
        "mlxr-cache-warm",
        &[(
            "mlxr cache warm -s \"Answer in one word\" Hello",
            "Computed before it is needed.",
        )],
    ),
    (
        "mlxr-cache-explain",
        &[(
            "mlxr cache explain monday.json tuesday.json",
            "Where two prompts part.",
        )],
    ),
    (
        "mlxr-cache-rm",
        &[(
            "mlxr cache rm Qwen/Qwen3-0.6B",
            "A model that was downloaded.",
        )],
    ),
    (
        "mlxr-cache-prune",
        &[(
            "mlxr cache prune --unused 30days",
            "What nobody asked for in a month.",
        )],
    ),
    (
        "mlxr-doctor",
        &[
            (
                "mlxr doctor --json | jq .mlx.devices",
                "One object, for a program.",
            ),
            (
                "mlxr doctor --parity Qwen/Qwen3-0.6B",
                "Whether all ways of computing choose the same tokens.",
            ),
        ],
    ),
];

/// What is read and written beside what is named.
const FILES: &[(&str, &str)] = &[
    (
        "~/.cache/huggingface/hub",
        "Downloaded models, shared with the tools of Hugging Face.",
    ),
    (
        "~/.cache/mlxr/prefix-v1",
        "Prompts that were computed with --cache.",
    ),
    (
        "~/.cache/mlxr/tokenizer-v1",
        "Tables of tokenizers, which can be made again.",
    ),
    ("~/.local/share/mlxr/history", "What was typed in chats."),
    (
        "../lib/mlxr/mlx_*",
        "MLX's library, beside the program; see mlxr-doctor(1).",
    ),
];

/// Writes a page for each command.
pub(super) fn generate(folder: &Path) {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    for command in commands(&command) {
        let page = page(&command);
        fs::write(folder.join(format!("{}.1", name(&command))), page).unwrap();
    }
}

/// A command and all below it that are not hidden.
fn commands(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands();
    let below = below.filter(|command| !command.is_hide_set());
    let below = below.flat_map(commands);
    [command.clone()].into_iter().chain(below).collect()
}

fn name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command) -> Vec<u8> {
    let name = name(command);
    let version = concat!("mlxr ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone())
        .title(&name)
        .source(version)
        .manual("mlxr");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page).unwrap();
    }
    let mut more = Roff::new();
    let examples = EXAMPLES.iter().find(|(page, _)| *page == name);
    let (_, examples) = examples.unwrap_or_else(|| panic!("{name} has no example"));
    let owned = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        let rows = rows.iter();
        rows.map(|(term, text)| ((*term).to_owned(), (*text).to_owned()))
            .collect()
    };
    list(&mut more, "EXAMPLES", &owned(examples));
    list(&mut more, "EXIT STATUS", &super::rows(&Exit::help()));
    list(&mut more, "ENVIRONMENT", &super::rows(Settings::HELP));
    list(&mut more, "FILES", &owned(FILES));
    more.to_writer(&mut page).unwrap();
    page
}

/// A section of terms, each with what is said of it.
fn list(roff: &mut Roff, heading: &str, rows: &[(String, String)]) {
    roff.control("SH", [heading]);
    for (term, text) in rows {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(text)]);
    }
}

#[test]
fn every_example_is_one_that_the_program_takes() {
    for (page, examples) in EXAMPLES {
        for (line, _) in *examples {
            let commands = line.split(" | ").filter(|part| part.starts_with("mlxr"));
            let mut count = 0;
            for command in commands {
                let command = command.split(" < ").next().unwrap();
                let words = shlex::split(command).unwrap();
                let parsed = <Cli as clap::Parser>::try_parse_from(words);
                assert!(parsed.is_ok(), "{page}: {line}: {}", parsed.unwrap_err());
                count += 1;
            }
            assert!(count > 0, "{page}: {line}");
        }
    }
}
