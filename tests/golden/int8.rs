//! What rounding activations to int8 changes: against the exact mode, over every checkpoint and the
//! built-in model, how often the likeliest token is another and how far distributions are apart.

use std::cell::RefCell;
use std::path::Path;

use mlxr::files::ModelFiles;
use mlxr::mlx::DeviceChoice;
use mlxr::models::{LoadedModel, Precision};
use mlxr::tokenizer::{Bos, Tokenizer};

use super::{for_each, forward, generate, likeliest, load, on, say};

/// Of the likeliest tokens, at least so many are to be the same.
const SAME: f64 = 0.95;

/// The mean of Kullback and Leibler's divergence is to be below this, in nats per token.
const DIVERGENCE: f64 = 1e-3;

/// Tokens that the built-in model answers each of [`PROMPTS`] with, at most.
const ANSWER: usize = 300;

const PROMPTS: [&str; 5] = [
    "<|im_start|>user\nTell me a story about a whale<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nIs this happy or sad? The soup was cold.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite as JSON: Olga is 41 years old and lives by the river.<|im_end|>\n\
     <|im_start|>assistant\n",
    "<|im_start|>user\nWhat is the capital of Peru?<|im_end|>\n<|im_start|>assistant\n",
    "Once upon a time, there was a small brown bear named Tom who lived in the garden. Tom had a \
     red kite and loved it more than anything. One day the wind took the kite and carried it over \
     the hill. Tom ran after it, but the kite was too fast. He sat down by the river and cried. An \
     old frog saw him and asked, \"Why are you sad?\"",
];

/// What was found over some tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Rows of logits that were compared after the same tokens.
    rows: usize,
    /// Those whose likeliest token is the same.
    same: usize,
    /// Nats, over all rows.
    divergence: f64,
    /// Tokens of greedy continuations.
    generated: usize,
    /// Those up to the first that is another.
    kept: usize,
}

impl Tally {
    /// Compares both models on `prompts` and the exact model's continuations `greedy`.
    fn new(
        exact: &LoadedModel,
        rounded: &LoadedModel,
        prompts: &[Vec<i32>],
        greedy: &[Vec<i32>],
    ) -> Self {
        let mut tally = Self::default();
        for (prompt, greedy) in prompts.iter().zip(greedy) {
            let ids = [prompt.as_slice(), greedy].concat();
            let [right, found] = [exact, rounded].map(|loaded| {
                forward(
                    loaded,
                    &[(0, 0, &ids)],
                    &mut [&mut loaded.model.new_cache()],
                )
            });
            let width = exact.model.vocabulary();
            for (right, found) in right.chunks_exact(width).zip(found.chunks_exact(width)) {
                tally.rows += 1;
                tally.same += usize::from(likeliest(right) == likeliest(found));
                tally.divergence += divergence(right, found);
            }
            let generated = generate(rounded, prompt, greedy.len());
            let pairs = generated.iter().zip(greedy);
            tally.generated += greedy.len();
            tally.kept += pairs.take_while(|(found, right)| found == right).count();
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.same += other.same;
        self.divergence += other.divergence;
        self.generated += other.generated;
        self.kept += other.kept;
    }

    fn say(self, name: &str) {
        say(&format!(
            "{name}: with int8 activations {:.2} % of the likeliest tokens are the same, \
             {:.1} % of those generated; divergence {:.1e}",
            100.0 * self.same(),
            100.0 * self.kept(),
            self.mean()
        ));
    }

    fn same(self) -> f64 {
        self.same as f64 / self.rows as f64
    }

    fn kept(self) -> f64 {
        self.kept as f64 / self.generated as f64
    }

    fn mean(self) -> f64 {
        self.divergence / self.rows as f64
    }
}

#[test]
fn rounded_activations_hardly_change_what_is_likely() {
    if on("gpu") || on("graphs") {
        say("skipped: activations are rounded by the kernels of the CPU alone");
        return;
    }
    let all = RefCell::new(Tally::default());
    let together = |name: &str, tally: Tally| {
        tally.say(name);
        all.borrow_mut().add(tally);
    };
    for_each(|golden| {
        let rounded = load(&golden.folder, Precision::Int8).unwrap();
        let (prompts, greedy) = (&golden.input_ids, &golden.greedy);
        together(
            &golden.name,
            Tally::new(&golden.loaded, &rounded, prompts, greedy),
        );
    });
    // A long text goes its own way after the first near tie: only short ones must stay the same.
    let short = *all.borrow();
    assert!(short.kept() >= SAME, "{short:?}");
    together("the built-in model", built_in());
    let all = all.into_inner();
    all.say("all");
    assert!(all.same() >= SAME && all.mean() < DIVERGENCE, "{all:?}");
}

fn built_in() -> Tally {
    mlxr::mlx::open(DeviceChoice::Cpu, None).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/stories");
    let tokenizer = Tokenizer::load(&ModelFiles::Folder(folder.clone())).unwrap();
    let [exact, rounded] =
        [Precision::Float32, Precision::Int8].map(|precision| load(&folder, precision).unwrap());
    let prompts = PROMPTS.map(|prompt| {
        let ids = tokenizer.encode(prompt, Bos::Never).unwrap();
        ids.into_iter().map(|id| id as i32).collect::<Vec<i32>>()
    });
    let greedy = prompts
        .each_ref()
        .map(|prompt| generate(&exact, prompt, ANSWER));
    Tally::new(&exact, &rounded, &prompts, &greedy)
}

/// Kullback and Leibler's divergence of what logits say from what the right ones say, in nats.
fn divergence(right: &[f32], found: &[f32]) -> f64 {
    let logarithms = |logits: &[f32]| -> Vec<f64> {
        let highest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let total: f64 = logits.iter().map(|x| f64::from(x - highest).exp()).sum();
        let logits = logits.iter();
        logits
            .map(|x| f64::from(x - highest) - total.ln())
            .collect()
    };
    let pairs = logarithms(right).into_iter().zip(logarithms(found));
    pairs
        .map(|(right, found)| right.exp() * (right - found))
        .sum()
}
