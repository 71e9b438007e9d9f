//! The rules: each takes a path and a text and says what is wrong; where files come from is not known here.

use crate::map::Map;
use crate::source::{Source, is_in, stem};

/// Lines that a file may have.
const MOST_LINES: usize = 800;

/// Bytes that a committed file may have.
const MOST_BYTES: usize = 8 << 20;

/// What unfinished code says. In pieces, since this file is looked through too.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
    concat!("allow(", "dead_code"),
];

/// Folders of one machine or of one person.
const FOREIGN_PLACES: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!(".lib", "rary/"),
];

/// What a rule found, one sentence each.
pub(crate) type Problems = Vec<String>;

/// A file stays short enough to be read.
pub(crate) fn length(_path: &str, text: &str) -> Problems {
    let lines = text.lines().count();
    if lines > MOST_LINES {
        vec![format!("{lines} lines, {MOST_LINES} are allowed")]
    } else {
        vec![]
    }
}

/// A file begins by saying what it is.
pub(crate) fn introduction(_path: &str, text: &str) -> Problems {
    if text.starts_with("//! ") {
        vec![]
    } else {
        vec!["does not begin with a `//!` line".to_owned()]
    }
}

/// Nothing unfinished, switched off or left from debugging is kept.
pub(crate) fn finished(_path: &str, text: &str) -> Problems {
    let words = UNFINISHED.iter().filter(|word| text.contains(**word));
    words.map(|word| format!("has `{word}`")).collect()
}

/// No file names a place that exists on one machine alone.
pub(crate) fn places(_path: &str, text: &str) -> Problems {
    let places = FOREIGN_PLACES.iter().filter(|place| text.contains(**place));
    places.map(|place| format!("names `{place}`")).collect()
}

/// A committed file is small enough to be cloned by everyone.
pub(crate) fn size(_path: &str, bytes: &[u8]) -> Problems {
    let size = bytes.len();
    if size > MOST_BYTES {
        vec![format!("{size} bytes, {MOST_BYTES} are allowed")]
    } else {
        vec![]
    }
}

/// A room names only the rooms that the table allows it.
pub(crate) fn rooms(path: &str, text: &str, map: &Map) -> Problems {
    let Some((place, allowed)) = map.room(path) else {
        return vec!["has no row in the table of rooms".to_owned()];
    };
    let own = place
        .split_once('/')
        .map_or("", |(_, own)| own)
        .replace('/', "::");
    let may = |name: &str| allowed.contains(&name.to_owned()) || name == own;
    let is_allowed = |name: &str| {
        // lib.rs hands these two on from the room `error`.
        let handed_on = ["Error", "Result"].contains(&name.split("::").next().unwrap_or(name));
        let name = if handed_on { "error" } else { name };
        let ends = name
            .match_indices("::")
            .map(|(end, _)| end)
            .chain([name.len()]);
        ends.map(|end| &name[..end]).any(may)
    };
    names(path, text, |name| {
        let inside = name.strip_prefix("crate::")?;
        (!is_allowed(inside)).then(|| format!("names `{name}`; `{place}` may not"))
    })
}

/// Names that have a home are named nowhere else.
pub(crate) fn homes(path: &str, text: &str, map: &Map) -> Problems {
    names(path, text, |name| {
        let mut homes = map.homes().iter();
        let (_, places) = homes.find(|(homed, _)| {
            name.strip_prefix(homed)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })?;
        let at_home = places.iter().any(|place| is_in(path, place));
        (!at_home).then(|| format!("names `{name}`, which is left to {}", places.join(", ")))
    })
}

/// A model's file names no other model; `models` are the stems of all of them.
pub(crate) fn models(path: &str, text: &str, models: &[&str]) -> Problems {
    let Some(own) = models.iter().find(|model| is_in(path, model)) else {
        return vec![];
    };
    names(path, text, |name| {
        let file = name.replace("::", "/").replacen("crate", "src", 1);
        let other = models.iter().find(|model| is_in(&file, model))?;
        (other != own).then(|| format!("names another model, `{name}`"))
    })
}

/// Every file that is a test or a benchmark of its own has its target in `manifest`.
pub(crate) fn target(path: &str, manifest: &str) -> Problems {
    let folders = path.split('/').count() - 1;
    let is_root = folders == 1 || (folders == 2 && stem(path) != path.trim_end_matches(".rs"));
    let is_own = (path.starts_with("tests/") || path.starts_with("benches/")) && is_root;
    if is_own && !manifest.contains(&format!("path = \"{path}\"")) {
        return vec!["has no target in Cargo.toml and is never run".to_owned()];
    }
    vec![]
}

/// What `judge` has against the names in a file.
fn names(path: &str, text: &str, judge: impl Fn(&str) -> Option<String>) -> Problems {
    match Source::parse(path, text) {
        Ok(source) => source.names.iter().filter_map(|name| judge(name)).collect(),
        Err(error) => vec![format!("is no Rust: {error}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "
| room | may name |
|---|---|
| `src/error` | nothing |
| `src/engine` | `error`, `cache::trie` |
| `src/engine/model_stepper` | `engine`, `mlx` |
| `src/models` | `error` |
| `commands/run` | `ui` |

| name | only in |
|---|---|
| `unsafe` | `src/mlx` |
| `mlx_sys` | `src/mlx` |
| `std::env` | `commands/settings` |
";

    fn check(found: &Problems, wanted: &[&str]) {
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.contains(wanted), "{found}");
        }
    }

    #[test]
    fn a_long_file_is_caught() {
        check(&length("src/x.rs", &"\n".repeat(800)), &[]);
        check(&length("src/x.rs", &"\n".repeat(801)), &["801 lines"]);
    }

    #[test]
    fn a_file_without_introduction_is_caught() {
        check(&introduction("src/x.rs", "//! What it is.\n"), &[]);
        check(
            &introduction("src/x.rs", "// What it is.\n//! Later.\n"),
            &["`//!`"],
        );
        check(&introduction("src/x.rs", ""), &["`//!`"]);
    }

    #[test]
    fn unfinished_code_is_caught() {
        for word in UNFINISHED {
            check(
                &finished("src/x.rs", &format!("fn f() {{ {word} }}")),
                &[word],
            );
        }
        check(
            &finished("src/x.rs", "fn f() { g() } // all there is to do"),
            &[],
        );
    }

    #[test]
    fn a_place_of_one_machine_is_caught() {
        for place in FOREIGN_PLACES {
            check(&places("README.md", &format!("see {place}x")), &[place]);
        }
        check(
            &places(
                "README.md",
                "in /usr/lib and ~/.cache, network/x, the workspace",
            ),
            &[],
        );
    }

    #[test]
    fn a_large_file_is_caught() {
        check(&size("x.bin", &vec![0; MOST_BYTES]), &[]);
        check(&size("x.bin", &vec![0; MOST_BYTES + 1]), &["bytes"]);
    }

    #[test]
    fn a_room_that_names_more_than_it_may_is_caught() {
        let check =
            |path, text, wanted: &[&str]| check(&rooms(path, text, &Map::read(PAGE)), wanted);
        let engine = "src/engine/mod.rs";
        check(
            engine,
            "use crate::{Error::Mlx, engine::stop, cache::trie::Trie}; use self::x;",
            &[],
        );
        check(engine, "use crate::mlx::Array;", &["crate::mlx::Array"]);
        check(
            engine,
            "use crate::{error, cache::{Layer, trie}};",
            &["crate::cache::Layer"],
        );
        check(
            engine,
            "fn f() { super::mlx::eval() }",
            &["crate::mlx::eval"],
        );
        check(engine, "#[cfg(test)] mod tests { use crate::mlx; }", &[]);
        check(
            "src/engine/model_stepper.rs",
            "use crate::mlx; use super::stepper;",
            &[],
        );
        check(
            "src/error.rs",
            "use crate::engine::Request;",
            &["crate::engine::Request"],
        );
        check(
            "commands/run/chat.rs",
            "use crate::{serve, ui}; use super::ask;",
            &["crate::serve"],
        );
        check("src/new.rs", "", &["no row"]);
    }

    #[test]
    fn a_name_away_from_home_is_caught() {
        let check =
            |path, text, wanted: &[&str]| check(&homes(path, text, &Map::read(PAGE)), wanted);
        check(
            "src/mlx/call.rs",
            "fn f() { unsafe { mlx_sys::mlx_array_new() } }",
            &[],
        );
        check(
            "src/ops/norm.rs",
            "fn f() { mlx_sys::mlx_array_new() }",
            &["mlx_sys::mlx_array_new"],
        );
        check(
            "src/ops/norm.rs",
            "#[cfg(test)] mod tests { fn f() { unsafe {} } }",
            &["`unsafe`"],
        );
        check("src/hub/mod.rs", "use std::{env, fs};", &["`std::env`"]);
        check(
            "commands/run.rs",
            "fn f() { std::env::var(\"X\") }",
            &["`std::env::var`"],
        );
        check("commands/settings.rs", "use std::env;", &[]);
        check(
            "src/hub/mod.rs",
            "const V: &str = env!(\"X\"); use std::environment;",
            &[],
        );
    }

    #[test]
    fn a_model_that_names_another_is_caught() {
        let all = ["src/models/llama", "src/models/qwen3"];
        let check = |path, text, wanted: &[&str]| check(&models(path, text, &all), wanted);
        check(
            "src/models/llama.rs",
            "use super::{Model, llama::Config}; use crate::ops::Linear;",
            &[],
        );
        check(
            "src/models/llama.rs",
            "use super::qwen3::Block;",
            &["crate::models::qwen3::Block"],
        );
        check("src/models/mod.rs", "use self::qwen3::Block;", &[]);
    }

    #[test]
    fn a_test_that_is_never_run_is_caught() {
        let manifest = "[[test]]\nname = \"a\"\npath = \"tests/a/main.rs\"\n";
        check(&target("tests/a/main.rs", manifest), &[]);
        check(&target("tests/a/helper.rs", manifest), &[]);
        check(&target("tests/b.rs", manifest), &["no target"]);
        check(&target("benches/c/main.rs", manifest), &["no target"]);
        check(&target("src/main.rs", manifest), &[]);
    }
}
