//! A small model of made-up weights, computed by graphs of MLX.

use crate::cache::{LayerCaches, LayerKind, SequenceCache};
use crate::config::{RopeConfig, RopeScaling};
use crate::kernels::gate::Activation;
use crate::kernels::router::Scores;
use crate::mlx::{Array, Dtype, Mode, Packing, dequantize, eval, quantize};
use crate::ops::attention::Attention;
use crate::ops::batch::Batch;
use crate::ops::decode::Builder;
use crate::ops::embedding::Embedding;
use crate::ops::experts::{Experts, Router, Stack};
use crate::ops::linear::{Linear, Matrix, project};
use crate::ops::mlp::GatedMlp;
use crate::ops::norm::RmsNorm;
use crate::ops::rope::Rope;
use crate::ops::vector::Vector;

/// Widths of hidden states, between the matrices of a feed-forward layer, of an expert, and of a head.
#[derive(Clone, Copy)]
pub(super) struct Widths(i32, i32, i32, i32);

pub(super) const WIDTHS: Widths = Widths(HIDDEN, INNER, INNER / 4, WIDTH);

/// Some that do not end with a step.
pub(super) const RAGGED: Widths = Widths(576, 1088, 320, WIDTH);

/// The same with wide heads.
pub(super) const WIDE: Widths = Widths(576, 1088, 320, 256);

pub(super) const HIDDEN: i32 = 512;
pub(super) const HEADS: i32 = 8;
pub(super) const KV_HEADS: i32 = 2;
pub(super) const WIDTH: i32 = 64;
pub(super) const INNER: i32 = 1024;
pub(super) const VOCABULARY: i32 = 512;
const EXPERTS: i32 = 16;

fn numbers(count: i32, seed: f32) -> Vec<f32> {
    let number = |i: i32| ((i as f32 + 17.0 * seed) * 12.9898).sin() * 43_758.547;
    (0..count).map(|i| 2.0 * number(i).fract()).collect()
}

/// How the weights of a model are stored.
#[derive(Clone, Copy)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    packing: Option<Packing>,
}

pub(super) fn affine(bits: i32, group_size: i32) -> Storage {
    let mode = Mode::Affine;
    Storage {
        dtype: Dtype::Bfloat16,
        packing: Some(Packing {
            mode,
            group_size,
            bits,
        }),
    }
}

pub(super) fn float4(mode: Mode, group_size: i32) -> Storage {
    Storage {
        dtype: Dtype::Bfloat16,
        packing: Some(Packing {
            mode,
            group_size,
            bits: 4,
        }),
    }
}

pub(super) fn dense(dtype: Dtype) -> Storage {
    Storage {
        dtype,
        packing: None,
    }
}

impl Storage {
    fn row(self, width: i32, seed: f32) -> Vector {
        let row = Array::from_slice(&numbers(width, seed), &[width]);
        Vector::Device(row.as_dtype(self.dtype).unwrap())
    }

    fn norm(self, width: i32, seed: f32) -> RmsNorm {
        RmsNorm {
            weight: self.row(width, seed),
            epsilon: 1e-5,
        }
    }

    fn matrix(self, rows: i32, inputs: i32, seed: f32) -> Matrix {
        let scale = 1.5 / (inputs as f32).sqrt();
        let all = numbers(rows * inputs, seed);
        let all: Vec<f32> = all.iter().map(|number| number * scale).collect();
        let all = Array::from_slice(&all, &[rows, inputs]);
        let all = all.as_dtype(self.dtype).unwrap();
        let Some(packing) = self.packing else {
            return Matrix::Dense(all);
        };
        let (weight, scales, biases) = quantize(&all, packing).unwrap();
        Matrix::Packed {
            weight,
            scales,
            biases,
            packing,
        }
    }

    fn linear(self, rows: i32, inputs: i32, seed: f32) -> Linear {
        Linear {
            matrix: self.matrix(rows, inputs, seed),
            bias: Some(self.row(rows, seed + 0.5)),
            group: None,
        }
    }
}

pub(super) struct Layer {
    pub(super) norms: [RmsNorm; 2],
    pub(super) inputs: [Linear; 3],
    pub(super) attention: Attention,
    pub(super) output: Linear,
    pub(super) mlp: GatedMlp,
    /// Of what attention and the feed-forward layer make.
    after: Option<[RmsNorm; 2]>,
    /// Instead of it.
    pub(super) experts: Option<Experts>,
}

pub(super) struct Model {
    pub(super) embedding: Embedding,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: RmsNorm,
    pub(super) head: Linear,
}

fn rope(width: i32) -> Rope {
    let config = RopeConfig {
        theta: 10_000.0,
        partial: 1.0,
        scaling: RopeScaling::None,
    };
    Rope::new(width as usize, &config)
}

impl Layer {
    /// The second of two layers looks back on a window and has norms of heads.
    pub(super) fn new(
        storage: Storage,
        Widths(hidden, inner, _, width): Widths,
        index: usize,
    ) -> Self {
        let seed = 10.0 * index as f32;
        let heads = [HEADS, KV_HEADS].map(|heads| heads as usize);
        let mut attention = Attention::new(heads, width as usize, rope(width), None);
        if index == 1 {
            attention.window = Some(40);
            attention.query_norm = Some(storage.norm(width, seed + 1.0));
            attention.key_norm = Some(storage.norm(width, seed + 2.0));
        }
        let [queries, keys] = [HEADS, KV_HEADS].map(|heads| heads * width);
        Self {
            norms: [3.0, 4.0].map(|more| storage.norm(hidden, seed + more)),
            inputs: [
                storage.linear(queries, hidden, seed + 5.0),
                storage.linear(keys, hidden, seed + 6.0),
                storage.linear(keys, hidden, seed + 7.0),
            ],
            attention,
            output: storage.linear(hidden, queries, seed + 8.0),
            mlp: GatedMlp {
                gate: storage.linear(inner, hidden, seed + 9.0),
                up: storage.linear(inner, hidden, seed + 9.1),
                down: storage.linear(hidden, inner, seed + 9.2),
                activation: Activation::Silu,
            },
            after: None,
            experts: None,
        }
    }

    /// With what Gemma has: norms after attention and the feed-forward layer.
    fn with_norms_after(storage: Storage, widths: Widths, index: usize) -> Self {
        let mut layer = Self::new(storage, widths, index);
        layer.after = Some([500.0, 501.0].map(|seed| storage.norm(widths.0, seed)));
        layer.mlp.activation = Activation::GeluTanh;
        layer
    }

    /// With experts, of which a token takes three.
    fn sparse(storage: Storage, widths: Widths, index: usize) -> Self {
        let Widths(hidden, _, inner, _) = widths;
        let of = |rows, inputs, seed: f32| {
            let all = (0..EXPERTS).map(|expert| storage.matrix(rows, inputs, seed + expert as f32));
            let all: Vec<Matrix> = all.collect();
            Matrix::stack_of(&all.iter().collect::<Vec<_>>()).unwrap()
        };
        let router = Router {
            linear: dense(storage.dtype).linear(EXPERTS, hidden, 300.0),
            scores: Scores::Softmax,
            correction: None,
            groups: None,
            taken: 3,
            normalize: Some(0.0),
            factor: 1.0,
        };
        let experts = Experts {
            router,
            stack: Stack::Device {
                gate: of(inner, hidden, 310.0),
                up: of(inner, hidden, 330.0),
                down: of(hidden, inner, 350.0),
                biases: None,
            },
            activation: Activation::Silu,
            shared: None,
            group: None,
        };
        Self {
            experts: Some(experts),
            ..Self::new(storage, widths, index)
        }
    }

    /// With what gpt-oss has: sinks, biases of experts, gates that are cut, and not as many experts as rows of a tile.
    fn with_sinks(storage: Storage, widths: Widths, index: usize) -> Self {
        let mut layer = Self::sparse(storage, widths, index);
        layer.attention.sinks = Some(storage.row(HEADS, 400.0));
        let Widths(hidden, _, inner, _) = widths;
        if let Some(experts) = &mut layer.experts {
            // Made up so that no step has experts which are nearly as good as those that it takes.
            experts.router.linear = dense(storage.dtype).linear(EXPERTS - 4, hidden, 337.0);
            experts.router.scores = Scores::SoftmaxOfTaken;
            experts.router.normalize = None;
            experts.activation = Activation::Clamped(1.5);
            let Stack::Device { biases, .. } = &mut experts.stack else {
                unreachable!("it was made for MLX")
            };
            *biases = Some([(inner, 410.0), (inner, 430.0), (hidden, 450.0)].map(
                |(width, seed)| {
                    let row = storage.row(EXPERTS * width, seed);
                    row.array().reshape(&[EXPERTS, width]).unwrap()
                },
            ));
        }
        layer
    }
}

impl Model {
    /// The same with experts in its second layer.
    pub(super) fn sparse(storage: Storage, widths: Widths) -> Self {
        let mut model = Self::new(storage, widths);
        model.layers[1] = Layer::sparse(storage, widths, 1);
        model
    }

    /// The same as Gemma is.
    pub(super) fn with_norms_after(storage: Storage, widths: Widths) -> Self {
        let mut model = Self::new(storage, widths);
        model.layers = (0..2)
            .map(|index| Layer::with_norms_after(storage, widths, index))
            .collect();
        model
    }

    /// The same as gpt-oss is.
    pub(super) fn with_sinks(storage: Storage, widths: Widths) -> Self {
        let mut model = Self::new(storage, widths);
        model.layers = (0..2)
            .map(|index| Layer::with_sinks(storage, widths, index))
            .collect();
        model
    }

    pub(super) fn new(storage: Storage, widths: Widths) -> Self {
        let Widths(hidden, ..) = widths;
        Self {
            embedding: Embedding {
                matrix: storage.matrix(VOCABULARY, hidden, 100.0),
                dtype: storage.dtype,
            },
            layers: (0..2)
                .map(|index| Layer::new(storage, widths, index))
                .collect(),
            norm: storage.norm(hidden, 101.0),
            head: Linear {
                matrix: storage.matrix(VOCABULARY, hidden, 102.0),
                bias: None,
                group: None,
            },
        }
    }

    /// The same weights in float32, none packed.
    pub(super) fn exact(&self) -> Self {
        let norm = |norm: &RmsNorm| RmsNorm {
            weight: exact_row(&norm.weight),
            epsilon: norm.epsilon,
        };
        let linear = |linear: &Linear| Linear {
            matrix: exact_matrix(&linear.matrix),
            bias: linear.bias.as_ref().map(exact_row),
            group: None,
        };
        let layer = |layer: &Layer| Layer {
            norms: layer.norms.each_ref().map(norm),
            inputs: layer.inputs.each_ref().map(linear),
            attention: Attention {
                query_norm: layer.attention.query_norm.as_ref().map(norm),
                key_norm: layer.attention.key_norm.as_ref().map(norm),
                sinks: layer.attention.sinks.as_ref().map(exact_row),
                ..layer.attention.clone()
            },
            output: linear(&layer.output),
            mlp: GatedMlp {
                gate: linear(&layer.mlp.gate),
                up: linear(&layer.mlp.up),
                down: linear(&layer.mlp.down),
                activation: layer.mlp.activation,
            },
            after: layer.after.as_ref().map(|norms| norms.each_ref().map(norm)),
            experts: layer.experts.as_ref().map(|experts| Experts {
                router: Router {
                    linear: linear(&experts.router.linear),
                    ..experts.router.clone()
                },
                stack: exact_stack(&experts.stack),
                ..experts.clone()
            }),
        };
        Self {
            embedding: Embedding {
                matrix: exact_matrix(&self.embedding.matrix),
                dtype: Dtype::Float32,
            },
            layers: self.layers.iter().map(layer).collect(),
            norm: norm(&self.norm),
            head: linear(&self.head),
        }
    }

    pub(super) fn new_cache(&self) -> SequenceCache {
        let layers = self.layers.iter();
        SequenceCache::new(layers.map(|layer| LayerKind::Keys {
            window: layer.attention.window,
            bytes: 1,
        }))
    }

    /// Takes the model down; says whether there can be a program.
    pub(super) fn describe(&self, program: &mut Builder) -> bool {
        let layer = |layer: &Layer, program: &mut Builder| {
            let inputs = layer.inputs.each_ref();
            let [first, second] = &layer.norms;
            let [after, fed_after] = match &layer.after {
                Some(norms) => norms.each_ref().map(Some),
                None => [None, None],
            };
            let attended = program.attend(first, inputs, &layer.attention, &layer.output, after);
            let fed = |program: &mut Builder| match &layer.experts {
                Some(experts) => program.experts(second, experts),
                None => program.feed_forward(second, &layer.mlp, fed_after),
            };
            attended.unwrap() && fed(program).unwrap()
        };
        program.embed(&self.embedding, Some(1.5)).unwrap()
            && self.layers.iter().all(|it| layer(it, program))
            && program.head(&self.norm, &self.head, Some(30.0)).unwrap()
    }

    /// The logits after each piece, `[B, vocabulary]`, by the graph.
    pub(super) fn logits(
        &self,
        pieces: &[(usize, usize, &[i32])],
        caches: &mut [SequenceCache],
    ) -> Array {
        let batch = Batch::new(pieces).unwrap();
        let mut caches: Vec<&mut SequenceCache> = caches.iter_mut().collect();
        let mut x = self.embedding.forward(&batch).unwrap().times(1.5).unwrap();
        for (index, layer) in self.layers.iter().enumerate() {
            let mut caches = LayerCaches::new(&batch, &mut caches, index);
            let inputs = project(&layer.norms[0], layer.inputs.each_ref(), &x).unwrap();
            let attended = caches.attend(&layer.attention, &inputs).unwrap();
            if let Some([after, fed_after]) = &layer.after {
                let attended = layer.output.apply(&attended).unwrap();
                x = after.add_to(&x, &attended).unwrap();
                let fed = layer.mlp.forward(&layer.norms[1], &x).unwrap();
                x = fed_after.add_to(&x, &fed).unwrap();
                continue;
            }
            x = layer.output.add_to(&x, &attended).unwrap();
            x = match &layer.experts {
                Some(experts) => experts.add_to(&layer.norms[1], &x),
                None => layer.mlp.add_to(&layer.norms[1], &x),
            }
            .unwrap();
        }
        let last = batch.segments.iter();
        let last: Vec<usize> = last
            .map(|segment| segment.row + segment.length - 1)
            .collect();
        let [logits] = project(&self.norm, [&self.head], &x.take(&last).unwrap()).unwrap();
        let logits = logits.capped(30.0).unwrap().device().unwrap().clone();
        let state = caches.iter().flat_map(|cache| cache.arrays());
        eval(state.chain([&logits])).unwrap();
        logits
    }
}

fn exact_row(row: &Vector) -> Vector {
    Vector::Device(row.array().as_dtype(Dtype::Float32).unwrap())
}

fn exact_stack(stack: &Stack) -> Stack {
    match stack {
        Stack::Device {
            gate,
            up,
            down,
            biases,
        } => Stack::Device {
            gate: exact_matrix(gate),
            up: exact_matrix(up),
            down: exact_matrix(down),
            biases: biases.as_ref().map(|biases| {
                biases
                    .each_ref()
                    .map(|bias| bias.as_dtype(Dtype::Float32).unwrap())
            }),
        },
        Stack::Host(..) => unreachable!("it was made for MLX"),
    }
}

fn exact_matrix(matrix: &Matrix) -> Matrix {
    Matrix::Dense(match matrix {
        Matrix::Dense(weight) => weight.as_dtype(Dtype::Float32).unwrap(),
        Matrix::Packed {
            weight,
            scales,
            biases,
            packing,
        } => dequantize(weight, scales, biases.as_ref(), *packing, Dtype::Float32).unwrap(),
        Matrix::Host(_) => unreachable!("it was made for MLX"),
    })
}
