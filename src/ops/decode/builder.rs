//! From the layers of a model to the list of instructions that the kernel goes through.

use super::experts::Routing;
use super::handed::Handed;
use super::instruction::{Boxed, Instruction, Region, Scratch, TOGETHER, Word, begun, code, float};
use super::program::{self, Program};
use super::stored::{Form, Stored, number, stored};
use super::then::Then;
use crate::error::Result;
use crate::mlx::{Array, Dtype, computes_with_cuda, has_large_blocks, multiprocessors, ops};
use crate::ops::embedding::Embedding;
use crate::ops::linear::Linear;
use crate::ops::mlp::GatedMlp;
use crate::ops::norm::RmsNorm;
use crate::ops::vector::Vector;

/// Matrices of an instruction.
const PARTS: usize = 3;

/// Where the words of an instruction's matrices begin.
const FIRST_PART: usize = 16;

/// Words of a matrix.
const OF_A_PART: usize = 5;

/// Takes down a model, layer by layer. Each method says whether the kernel can compute what it is given; if not,
/// there is no program.
#[derive(Debug, Default)]
pub struct Builder {
    pub(super) instructions: Vec<Instruction>,
    /// Those that come before them.
    pub(super) angles: Vec<Instruction>,
    /// What instructions find by address.
    pub(super) arrays: Vec<Array>,
    /// Of these, matrices that whole boxes are copied of.
    boxed: Vec<Boxed>,
    /// How matrices are stored, and the steps that must have room at once.
    products: Vec<(Form, i32)>,
    pub(super) scratch: Scratch,
    pub(super) handed: Handed,
    /// Periods and scales of rotations, and where their angles are.
    pub(super) turns: Vec<(Vec<f32>, f32, Word)>,
    pub(super) facts: program::Facts,
}

impl Builder {
    /// The rows of tokens, multiplied with `scale`: what hidden states begin as.
    ///
    /// # Errors
    /// What MLX says.
    pub fn embed(&mut self, embedding: &Embedding, scale: Option<f32>) -> Result<bool> {
        let Some(matrix) = stored(&embedding.matrix) else {
            return Ok(false);
        };
        let Some(kept) = number(embedding.dtype) else {
            return Ok(false);
        };
        if !self.scaled_by(matrix.form.scales) {
            return Ok(false);
        }
        self.facts.constants.kept = kept;
        let mut words = begun(code::EMBED);
        words[1] = Word::Number(matrix.inputs.into());
        words[2] = Word::Number(matrix.form.format);
        words[3] = Word::Number(matrix.form.group.into());
        words[4] = self.address(matrix.weight);
        words[5] = self.optional(matrix.scales);
        words[6] = self.optional(matrix.biases);
        words[7] = self.scratch.region(Region::Residual, matrix.inputs);
        words[8] = float(scale.unwrap_or(1.0));
        self.instructions.push(words);
        self.makes_hidden(matrix.inputs);
        Ok(true)
    }

    /// `x + after(mlp(norm(x)))`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn feed_forward(
        &mut self,
        norm: &RmsNorm,
        mlp: &GatedMlp,
        after: Option<&RmsNorm>,
    ) -> Result<bool> {
        let inputs = [&mlp.gate, &mlp.up];
        Ok(self.multiply(
            Some(norm),
            &inputs,
            Region::Residual,
            &Then::Gate(mlp.activation),
        )? && self.lead_back(&mlp.down, Region::Gated, after)?)
    }

    /// `head(norm(x))`, the logits, which become `cap · tanh(logit / cap)`.
    ///
    /// # Errors
    /// What MLX says.
    pub fn head(&mut self, norm: &RmsNorm, head: &Linear, soft_cap: Option<f32>) -> Result<bool> {
        let Some(matrix) = stored(&head.matrix) else {
            return Ok(false);
        };
        self.facts.vocabulary = matrix.rows;
        self.multiply(
            Some(norm),
            &[head],
            Region::Residual,
            &Then::Logits(soft_cap),
        )
    }

    /// Of what was taken down; `None` where no GPU of NVIDIA computes.
    ///
    /// # Errors
    /// What MLX, or the compiler, says.
    pub fn finish(mut self) -> Result<Option<Program>> {
        // The next step begins with the first buffer of the mail.
        if !computes_with_cuda()? || !has_large_blocks()? || self.facts.sums % 2 != 0 {
            return Ok(None);
        }
        // All have slots for the largest of steps.
        let slot = self.products.iter().map(|(form, _)| form.slot()).max();
        let fits = |rows: i32| {
            let mut products = self.products.iter();
            products.all(|(form, steps)| form.room(rows, slot.unwrap_or(0)) >= *steps)
        };
        while !fits(self.facts.rows) {
            self.facts.rows /= 2;
            if self.facts.rows == 0 {
                return Ok(None);
            }
        }
        let (scratch, multiprocessors) = (self.scratch.numbers(), multiprocessors()?);
        let instructions = self.resolved(multiprocessors);
        Program::new(
            &instructions,
            self.arrays,
            &self.boxed,
            scratch,
            multiprocessors,
            self.facts,
        )
    }

    pub(super) fn multiply(
        &mut self,
        norm: Option<&RmsNorm>,
        layers: &[&Linear],
        source: Region,
        then: &Then,
    ) -> Result<bool> {
        let matrices = layers.iter().map(|layer| stored(&layer.matrix));
        let Some(matrices) = matrices.collect::<Option<Vec<Stored<'_>>>>() else {
            return Ok(false);
        };
        let biases: Vec<_> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        self.multiply_stored(norm, &matrices, &biases, source, then, None)
    }

    /// Of experts, `matrices` are one of each stack.
    pub(super) fn multiply_stored(
        &mut self,
        norm: Option<&RmsNorm>,
        matrices: &[Stored<'_>],
        biases: &[Option<&Vector>],
        source: Region,
        then: &Then,
        routing: Option<&Routing>,
    ) -> Result<bool> {
        let Some(first) = matrices.first() else {
            return Ok(false);
        };
        // What leads back from experts takes the outputs of all that are taken, side by side.
        let taken = routing.map_or(1, |routing| routing.taken);
        let (gates, segments) = match then {
            Then::Gate(_) => (taken, 1),
            _ => (1, taken),
        };
        let inputs = first.inputs * segments;
        let steps = match first.form.steps(first.inputs) {
            steps if segments > 1 => (steps + TOGETHER - 1) / TOGETHER * TOGETHER * segments,
            steps => steps,
        };
        let multiple = if matches!(then, Then::Gate(_)) { 8 } else { 16 };
        let fits = |matrix: &Stored<'_>| {
            matrix.form == first.form
                && matrix.inputs == first.inputs
                && matrix.rows % multiple == 0
        };
        if matrices.len() > PARTS
            || !matrices.iter().all(fits)
            || !self.scaled_by(first.form.scales)
        {
            return Ok(false);
        }
        // Some take all inputs at once.
        let in_one_pass = norm.is_some() || matches!(then, Then::Gate(_));
        let at_once = if in_one_pass { steps } else { 1 };
        let mut rows = [16, 8, 4, 2, 1].into_iter().filter(|&rows| {
            rows <= first.form.most_rows() && first.form.room(rows, first.form.slot()) >= at_once
        });
        let Some(most) = rows.next() else {
            return Ok(false);
        };
        // Tokens that take different experts have no step in common.
        let most = if routing.is_some() { 1 } else { most };
        self.facts.rows = most.min(self.facts.rows);
        self.facts.constants.variants |= 1 << first.form.variant;
        self.products.push((first.form, at_once));
        let rows: i32 = match then {
            Then::Gate(_) => first.rows,
            _ => matrices.iter().map(|matrix| matrix.rows).sum(),
        };
        let mut words = begun(code::MULTIPLY);
        words[1] = Word::Number(inputs.into());
        words[4] = self.scratch.region(source, inputs);
        let mut weights = None;
        if let Some(norm) = norm {
            weights = self.vector(&norm.weight)?;
            let Some(address) = weights else {
                return Ok(false);
            };
            words[5] = address;
            words[6] = float(norm.epsilon);
        }
        self.takes(&mut words, source, (&first.form, first.inputs), weights);
        let Some((kind, destination)) = self.destination(then, rows * gates, &mut words) else {
            return Ok(false);
        };
        words[7] = Word::Number(kind);
        words[8] = destination;
        words[10] = Word::Number(matrices.len() as i64);
        words[11] = Word::Number(rows.into());
        words[14] = Word::Warps(rows * gates / multiple, steps);
        words[15] = Word::Number(first.form.variant.into());
        for (part, (matrix, bias)) in matrices.iter().zip(biases).enumerate() {
            let at = FIRST_PART + OF_A_PART * part;
            words[at] = self.weight(matrix);
            words[at + 1] = self.scales(matrix, matrix.scales)?;
            words[at + 2] = self.scales(matrix, matrix.biases)?;
            if let Some(bias) = bias {
                let Some(address) = self.vector(bias)? else {
                    return Ok(false);
                };
                words[at + 3] = address;
            }
            words[at + 4] = Word::Number(matrix.rows.into());
        }
        if let Some(routing) = routing {
            // Where the third matrix of others is; the last word tells that there are experts.
            words[27] = routing.scores;
            words[29] = Word::Number(routing.count.into());
            words[30] = Word::Number(routing.of_taken.into());
            words[31] = Word::Number(routing.taken.into());
        }
        self.instructions.push(words);
        match then {
            Then::Add => self.makes_hidden(rows),
            Then::Gate(_) => self.makes(Region::Gated),
            Then::Share(_, to) => self.add_up(destination, rows, *to),
            Then::Store(_) | Then::Logits(_) => {}
        }
        Ok(true)
    }

    /// Whether scales of this type go with those before.
    fn scaled_by(&mut self, scales: Option<i32>) -> bool {
        let Some(scales) = scales else {
            return true;
        };
        let all = *self.facts.scales.get_or_insert(scales);
        self.facts.constants.scales = all;
        all == scales
    }

    pub(super) fn address(&mut self, array: &Array) -> Word {
        self.arrays.push(array.clone());
        Word::Address(self.arrays.len() - 1)
    }

    /// Where a matrix is fetched from: where its rows do not end with a step, lane by lane.
    fn weight(&mut self, matrix: &Stored<'_>) -> Word {
        let address = self.address(matrix.weight);
        match address {
            Word::Address(array) if !matrix.form.is_ragged() => {
                let bytes = i64::from(matrix.inputs) * i64::from(matrix.form.bits) / 8;
                self.boxed.push(Boxed {
                    array,
                    rows: matrix.weight.nbytes() as i64 / bytes,
                    bytes,
                });
                Word::Map(self.boxed.len() - 1)
            }
            _ => address,
        }
    }

    fn optional(&mut self, array: Option<&Array>) -> Word {
        array.map_or(Word::Number(0), |array| self.address(array))
    }

    /// Scales or biases of a matrix, of which the kernel fetches those of whole steps.
    fn scales(&mut self, matrix: &Stored<'_>, scales: Option<&Array>) -> Result<Word> {
        match (scales, matrix.form.scales) {
            (Some(scales), Some(_)) if matrix.form.is_ragged() => {
                let mut missing = scales.shape().to_vec();
                if let Some(last) = missing.last_mut() {
                    let whole = matrix.form.steps(matrix.inputs) * matrix.form.span();
                    *last = whole / matrix.form.group - *last;
                }
                let zeros = ops::zeros_dtype(&missing, scales.dtype())?;
                Ok(self.address(&ops::concatenate(&[scales, &zeros], -1)?))
            }
            _ => Ok(self.optional(scales)),
        }
    }

    /// A row of weights in float32; `None` where it is on the host.
    pub(super) fn vector(&mut self, vector: &Vector) -> Result<Option<Word>> {
        match vector {
            Vector::Device(array) => Ok(Some(self.address(&array.as_dtype(Dtype::Float32)?))),
            Vector::Host(_) => Ok(None),
        }
    }

    /// All instructions with regions found, for a card with so many multiprocessors. Before the first one is what
    /// holds for all; after the end is one more, since the kernel reads ahead.
    pub(super) fn resolved(&self, multiprocessors: i32) -> Vec<Instruction> {
        let mut header = begun(code::END);
        header[1] = Word::Number(self.facts.layers as i64);
        let instructions = self.angles.iter().chain(&self.instructions);
        [&header]
            .into_iter()
            .chain(instructions)
            .chain(&[begun(code::END); 2])
            .map(|words| words.map(|word| self.scratch.resolve(word, multiprocessors)))
            .collect()
    }
}
