//! Constraints that are made to take for ever: each is refused or followed within a bounded time.

use std::time::{Duration, Instant};

use super::*;

/// More than enough, on a machine that does other things, without optimization.
const PATIENCE: Duration = Duration::from_secs(20);

/// Others are not to wait for these.
static OWN: LazyLock<Grammars> = LazyLock::new(|| Grammars::new(Arc::clone(&TOKENIZER)));

/// Compiles a constraint and follows it for some tokens, where it is not refused; says what came of it.
fn follow(name: &str, constraint: &Constraint) -> Result<(), String> {
    let begin = Instant::now();
    let guide = OWN.guide(constraint, None);
    let compiled = begin.elapsed();
    let ended = guide
        .map_err(|error| error.to_string())
        .and_then(|mut guide| {
            let mut walk = Walk { state: 7 };
            for _ in 0..100 {
                let ids: Vec<u32> = guide
                    .mask()
                    .ids()
                    .filter(|id| !TOKENIZER.eos_ids().contains(id))
                    .collect();
                let Some(&id) = ids.get(walk.below(ids.len().max(1))) else {
                    break;
                };
                match guide.push(id) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => break,
                    Err(error) => return Err(format!("on the way: {error}")),
                }
            }
            Ok(())
        });
    let all = begin.elapsed();
    println!("{name}: {compiled:?}, {all:?}: {ended:?}");
    assert!(all < PATIENCE, "{name} took {all:?}");
    ended
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(
        json!({"type": "null"}),
        |inner, _| json!({"type": "array", "items": inner}),
    )
}

/// A schema whose definitions are given by their numbers.
fn defined(count: usize, definition: impl Fn(usize) -> Value) -> Constraint {
    let definitions: serde_json::Map<String, Value> = (0..count)
        .map(|n| (format!("d{n}"), definition(n)))
        .collect();
    schema(json!({"$ref": "#/$defs/d0", "$defs": definitions}))
}

fn reference(number: usize) -> Value {
    json!({"$ref": format!("#/$defs/d{number}")})
}

/// Follows a schema, which is refused or may be.
fn check(name: &str, schema: &Constraint, is_refused: bool) {
    let ended = follow(name, schema);
    assert!(ended.is_err() || !is_refused, "{name} is followed");
}

#[test]
fn large_schemas_end_in_time() {
    let strings = |count: usize| {
        (0..count)
            .map(|n| format!("choice {n}"))
            .collect::<Vec<_>>()
    };
    let object = |count: usize, key: &str| {
        let names = (0..count).map(|n| (format!("p{n}"), json!({"type": "null"})));
        schema(json!({"type": "object", key: names.collect::<serde_json::Map<_, _>>()}))
    };
    check("deep", &schema(nested(1000)), true);
    check("rather deep", &schema(nested(80)), false);
    check(
        "huge enum",
        &schema(json!({"enum": strings(100_000)})),
        true,
    );
    check(
        "large enum",
        &schema(json!({"enum": strings(9_000)})),
        false,
    );
    check("many properties", &object(2000, "properties"), false);
    check("more properties", &object(6000, "properties"), true);
    check("many patterns", &object(600, "patternProperties"), true);
    let ended = schema(json!({"type": "string", "minLength": 1_000_000}));
    check("long strings", &ended, false);
    let ended = schema(json!({"type": "string", "maxLength": 1_000_000_000}));
    check("longer strings", &ended, false);
    let items = json!({"type": "null"});
    let ended = schema(json!({"type": "array", "minItems": 1_000_000_000, "items": items}));
    check("many items", &ended, false);
    let ended = schema(json!({"type": "array", "maxItems": 100_000_000, "items": nested(3)}));
    check("more items", &ended, false);
}

#[test]
fn circles_end_in_time() {
    let all = |count: usize| (0..count).map(reference).collect::<Vec<_>>();
    let link = |n| {
        if n < 3999 {
            reference(n + 1)
        } else {
            json!({"type": "null"})
        }
    };
    check("chain", &defined(4000, link), false);
    let link = |n| json!({"type": "object", "properties": {"a": reference((n + 1) % 1500)}});
    check("chain of objects", &defined(1500, link), false);
    check("circle", &defined(3, |n| reference((n + 1) % 3)), true);
    check(
        "circle of all",
        &defined(40, |_| json!({"allOf": all(40)})),
        true,
    );
    check(
        "circle of any",
        &defined(60, |_| json!({"anyOf": all(60)})),
        true,
    );
}

#[test]
fn products_end_in_time() {
    let any = |count: usize| {
        let options = (0..count).map(|n| json!({"minimum": n, "maxLength": n}));
        json!({"anyOf": options.collect::<Vec<_>>()})
    };
    check("product", &schema(json!({"allOf": vec![any(20); 5]})), true);
    let inner = |count: usize| format!("(a|b)*a(a|b){{{count}}}");
    let patterns = |count: usize| {
        let parts = (0..count).map(|n| json!({"type": "string", "pattern": inner(n + 20)}));
        json!({"allOf": parts.collect::<Vec<_>>()})
    };
    check("patterns", &schema(patterns(300)), true);
    check("few patterns", &schema(patterns(3)), false);
    let hidden = json!({"type": "string", "pattern": inner(20), "anyOf": [patterns(3)]});
    check("hidden patterns", &schema(hidden), false);
    let and = (0..20)
        .map(|n| format!("/{}/", inner(n + 20)))
        .collect::<Vec<_>>();
    let and = format!("start: T\nT: {}\n", and.join(" & "));
    check("patterns of a grammar", &Constraint::Lark(and), true);
    let small = json!({"type": "number", "multipleOf": 1e-300, "minimum": -1e300});
    check("small multiples", &schema(small), true);
    let large = json!({"type": "integer", "multipleOf": 999_999_937});
    check("large multiples", &schema(large), true);
    let primes = json!({"multipleOf": 7919, "anyOf": [{"multipleOf": 104_729}]});
    check("multiples of primes", &schema(primes), true);
}

#[test]
fn texts_end_in_time() {
    for (name, regex) in [
        ("states", "(a|b)*a(a|b){60}".to_owned()),
        ("any states", ".*a.{200}b.{200}c".to_owned()),
        (
            "powers",
            "((((a{0,100}){0,100}){0,100}){0,100}){0,100}".to_owned(),
        ),
        ("backtracking", "(x+x+)+y".to_owned()),
        ("counted", "(a?){5000}a{5000}".to_owned()),
        ("long", "abcdefghij".repeat(20_000)),
        ("longer", "a".repeat(1 << 20)),
        (
            "alternatives",
            (0..20_000)
                .map(|n| format!("c{n}"))
                .collect::<Vec<_>>()
                .join("|"),
        ),
        ("classes", "[a-z][^a-z]\\p{L}\\P{L}".repeat(500)),
        (
            "parentheses",
            format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000)),
        ),
        (
            "options",
            format!("{}a{}", "(".repeat(200), "b)?".repeat(200)),
        ),
    ] {
        drop(follow(name, &Constraint::Regex(regex)));
    }
    let rules = |count: usize, rule: fn(usize) -> String| {
        let rules: String = (0..count).map(rule).collect();
        format!("start: r0\n{rules}r{count}: \"a\"\n")
    };
    for (name, grammar) in [
        (
            "doubled",
            rules(60, |n| format!("r{n}: r{0} r{0}\n", n + 1)),
        ),
        (
            "doubled options",
            rules(60, |n| format!("r{n}: r{0}? r{0}?\n", n + 1)),
        ),
        ("chained", rules(8000, |n| format!("r{n}: r{0}\n", n + 1))),
        (
            "ambiguous",
            "start: s\ns: s s | s s s | \"a\" | \"\"\n".to_owned(),
        ),
        (
            "repeated",
            "start: (\"a\"{0,100000} \"b\"){0,100000}\n".to_owned(),
        ),
        ("endless", "start: a\na: a \"x\"\n".to_owned()),
    ] {
        drop(follow(name, &Constraint::Lark(grammar)));
    }
    let choices = |count: usize| (0..count).map(|n| format!("choice {n}")).collect();
    drop(follow("choices", &Constraint::Choices(choices(15_000))));
    follow("too many choices", &Constraint::Choices(choices(100_000))).unwrap_err();
}
