//! A model as a list of instructions in the card's memory.

use std::cell::RefCell;

use super::ROWS;
use super::instruction::{Boxed, Instruction, SPLITS, WORDS, Word};
use super::kernel::{Constants, Inputs, launch};
use crate::error::Result;
use crate::mlx::{
    Array, Dtype, Group, MAP_WORDS, Mail, addresses, eval, ops, tensor_map, to_words,
};
use crate::ops::tensor::misplaced;

/// Positions that are worth a run of their own.
const OF_A_SPLIT: i32 = 128;

/// What addresses are a multiple of.
const ALIGNMENT: i64 = 16;

/// Numbers that mail begins with; as in the sources.
const HEAD: usize = 32;

/// The word of what comes before the first instruction that says which of several processes this is. How many sums a
/// step has follows, and the addresses of their mail.
const RANK: usize = 2;

/// The word of it that says where maps of matrices are that no step has known yet; how many follows.
const NEW_MAPS: usize = 12;

/// Query heads that a block takes at most.
const QUERIES: i32 = 4;

/// What is known of a model beside its instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Layers that keep keys and values: all.
    pub(super) layers: usize,
    /// The most heads of keys that one has.
    pub(super) kv_heads: i32,
    pub(super) vocabulary: i32,
    /// Sequences that a step takes at most.
    pub(super) rows: i32,
    /// The number of the type of all scales, where there are some.
    pub(super) scales: Option<i32>,
    /// Products that several processes add up in a step, and the numbers of each of both buffers for them.
    pub(super) sums: i64,
    pub(super) buffer: i64,
    pub(super) constants: Constants,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            layers: 0,
            kv_heads: 0,
            vocabulary: 0,
            rows: ROWS as i32,
            scales: None,
            sums: 0,
            buffer: 0,
            constants: Constants {
                ranks: 1,
                ..Constants::default()
            },
        }
    }
}

/// See [`super`].
#[derive(Debug)]
pub struct Program {
    /// int64 `[N, 32]`: instructions, then maps of matrices.
    words: Array,
    /// Where the maps begin, and how many they are.
    maps: (usize, usize),
    /// What instructions name by address: as long as it is held it stays where it is.
    #[expect(dead_code, reason = "held, not read")]
    arrays: Vec<Array>,
    scratch: Array,
    barrier: Array,
    facts: Facts,
    multiprocessors: i32,
    /// Where the numbers come that other processes have.
    mail: Option<Mail>,
    /// Rows and splits of the last step, and these as an array: they seldom change.
    sizes: RefCell<Option<([i32; 2], Array)>>,
}

/// What a step works on.
#[derive(Debug)]
pub struct Step<'a> {
    /// The newest token of each of B sequences, int32 `[B]`.
    pub tokens: &'a Array,
    /// How long each was before it, int32 `[B]`.
    pub positions: &'a Array,
    /// The longest of these.
    pub longest: i32,
    /// Addresses of keys and values of each layer, with room for one more row, int64 `[B, layers, 2]`.
    pub caches: &'a Array,
    /// Capacity of these buffers, and the position of their first row, int32 `[B, layers, 2]`.
    pub places: &'a Array,
    /// Any int32 that the step before computes: steps share memory, and come one after the other.
    pub after: &'a Array,
}

impl Program {
    /// Puts instructions into the card's memory, and compiles the kernel; `None` where an array does not lie as the
    /// kernel fetches it.
    pub(super) fn new(
        instructions: &[Instruction],
        arrays: Vec<Array>,
        boxed: &[Boxed],
        scratch: i64,
        multiprocessors: i32,
        facts: Facts,
    ) -> Result<Option<Self>> {
        let all: Vec<&Array> = arrays.iter().collect();
        let found = to_words(&addresses(&all)?)?;
        if found.iter().any(|address| address % ALIGNMENT != 0) {
            return Ok(None);
        }
        let address = |array: usize| found.get(array).copied().unwrap_or(0);
        // Behind the instructions, whole rows of words.
        let maps = instructions.len() * WORDS;
        let word = |word: &Word| match *word {
            Word::Number(number) => number,
            Word::Address(array) => address(array),
            Word::Map(index) => (maps + index * MAP_WORDS) as i64,
            Word::Place(..) | Word::Warps(..) => 0,
        };
        let mut words: Vec<i64> = instructions.iter().flatten().map(word).collect();
        for matrix in boxed {
            words.extend(tensor_map(
                address(matrix.array),
                matrix.rows,
                matrix.bytes,
            )?);
        }
        words.resize(words.len().next_multiple_of(WORDS), 0);
        let rows = words.len() / WORDS;
        let words = Array::from_slice(&words, &[rows as i32, WORDS as i32]);
        // What comes from the host lies in memory that both have; a result, in the card's own.
        let words = words.add(Array::from_slice(&[0_i64], &[1]))?;
        let scratch = i32::try_from(scratch).map_err(|_| misplaced())?;
        let made = Self {
            words,
            maps: (maps, boxed.len()),
            arrays,
            scratch: ops::zeros_dtype(&[scratch], Dtype::Float32)?,
            barrier: ops::zeros_dtype(&[32], Dtype::Uint32)?,
            facts,
            multiprocessors,
            mail: None,
            sizes: RefCell::default(),
        };
        eval([&made.scratch, &made.barrier])?;
        made.probe()?;
        Ok(Some(made))
    }

    /// What all of a group have made becomes one program that they run together: `None` on each where one has none.
    ///
    /// # Errors
    /// What MLX says, or that the GPUs do not reach each other's memory: then on all of them.
    pub fn together(program: Option<Self>, group: &Group) -> Result<Option<Self>> {
        let mut counts = vec![0; group.size()];
        counts[group.rank()] = program
            .as_ref()
            .map_or(0, |program| program.multiprocessors);
        let counts = group.sum_words(&counts)?;
        // Each chooses its tokens by itself: all must add up in the same order, which depends on the multiprocessors.
        let (Some(mut program), true) = (
            program,
            counts.iter().all(|&count| count > 0 && count == counts[0]),
        ) else {
            return Ok(None);
        };
        let bytes = (HEAD + 2 * program.facts.buffer as usize) * size_of::<u64>();
        let mail = Mail::new(group, bytes)?;
        let mut header = vec![0; program.words.size()];
        header[RANK] = group.rank() as i64;
        header[RANK + 1] = program.facts.sums;
        for (word, address) in header[RANK + 2..].iter_mut().zip(mail.addresses()) {
            *word = address.cast_signed();
        }
        let header = Array::from_slice(&header, program.words.shape());
        program.words = program.words.add(header)?;
        program.probe()?;
        program.mail = Some(mail);
        Ok(Some(program))
    }

    /// Sequences that a step takes at most.
    pub fn rows(&self) -> usize {
        self.facts.rows as usize
    }

    /// The type that keys and values must have.
    pub fn kept(&self) -> Dtype {
        match self.facts.constants.kept {
            0 => Dtype::Bfloat16,
            1 => Dtype::Float16,
            _ => Dtype::Float32,
        }
    }

    /// Logits `[B, vocabulary]`, float32, not evaluated. Keys and values of the tokens are written into the buffers,
    /// which MLX knows nothing of: it must be evaluated after everything that works on them, and apart from it.
    ///
    /// # Errors
    /// What MLX says.
    pub fn step(&self, step: &Step<'_>) -> Result<Array> {
        self.run(&self.words, step)
    }

    fn run(&self, words: &Array, step: &Step<'_>) -> Result<Array> {
        let rows = step.tokens.shape()[0];
        let splits = self.splits(rows, step.longest + 1);
        let sizes = self.sizes([rows, splits]);
        let inputs = Inputs {
            program: words,
            sizes: &sizes,
            tokens: step.tokens,
            positions: step.positions,
            caches: step.caches,
            places: step.places,
            scratch: &self.scratch,
            barrier: &self.barrier,
            after: step.after,
        };
        let Facts {
            constants,
            vocabulary,
            ..
        } = self.facts;
        launch(&inputs, constants, vocabulary, self.multiprocessors)
    }

    fn sizes(&self, sizes: [i32; 2]) -> Array {
        let mut last = self.sizes.borrow_mut();
        match &*last {
            Some((known, array)) if *known == sizes => array.clone(),
            _ => {
                let array = Array::from_slice(&[sizes[0], sizes[1], 0, 0], &[4]);
                *last = Some((sizes, array.clone()));
                array
            }
        }
    }

    /// So many that all multiprocessors have some, and each something to do.
    fn splits(&self, rows: i32, length: i32) -> i32 {
        let parts = (self.facts.constants.ratio + QUERIES - 1) / QUERIES;
        let heads = rows * self.facts.kv_heads * parts;
        splits(self.multiprocessors, heads, length)
    }

    /// Goes through a program that ends at once, once the maps are where they are.
    fn probe(&self) -> Result<()> {
        let (maps, count) = self.maps;
        let found = to_words(&addresses(&[&self.words])?)?;
        let mut end = vec![0; 3 * WORDS];
        for address in found {
            end[NEW_MAPS] = address + (maps * size_of::<i64>()) as i64;
            end[NEW_MAPS + 1] = count as i64;
        }
        let end = Array::from_slice(&end, &[3, WORDS as i32]);
        let zero = Array::from_slice(&[0_i32], &[1]);
        let tables = [1, self.facts.layers as i32, 2];
        let caches = ops::zeros_dtype(&tables, Dtype::Int64)?;
        let places = ops::zeros_dtype(&tables, Dtype::Int32)?;
        let step = Step {
            tokens: &zero,
            positions: &zero,
            longest: 0,
            caches: &caches,
            places: &places,
            after: &zero,
        };
        eval([&self.run(&end, &step)?]).map_err(Into::into)
    }
}

/// Runs that the positions of a sequence are parted in where blocks take so many heads of keys side by side, those of
/// all sequences.
pub(super) fn splits(multiprocessors: i32, heads: i32, length: i32) -> i32 {
    let wanted = multiprocessors / heads.max(1);
    let worth = (length + OF_A_SPLIT - 1) / OF_A_SPLIT;
    wanted.min(worth).clamp(1, SPLITS)
}
