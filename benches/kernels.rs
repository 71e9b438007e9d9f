//! The CPU kernels, in bytes and operations a second, beside what this machine can do at best.
//!
//! `cargo bench --bench kernels` runs all, `… -- linear` those whose name has the word. An element
//! is a floating-point operation (a product and its addition are two), so `Gelem/s` are GFLOP/s.

use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mlxr::kernels::CacheNumber;
use mlxr::kernels::attention::{Attention, AttentionSegment, attend};
use mlxr::kernels::gate::{Activation, gate};
use mlxr::kernels::limits;
use mlxr::kernels::linear::{Arithmetic, Product, Then, multiply};
use mlxr::kernels::matrix::{Format, Matrix, Number, Part};
use mlxr::kernels::norm::rms_norm;
use mlxr::kernels::pages::{PAGE, Page};
use mlxr::kernels::pool;
use mlxr::kernels::sampling::{Noise, choose};
use mlxr::sample::Sampling;

/// Activations of a token, as in Qwen3 0.6B.
const HIDDEN: usize = 1024;

/// Tokens of a prompt's chunk.
const TOKENS: usize = 512;

/// Numbers from -1 to 1 that look random.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / f32::from(1u16 << 15) / 256.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    group
}

/// What the others are held against.
fn machine(criterion: &mut Criterion) {
    let mut group = group(criterion, "machine");
    // Far more than caches hold.
    let memory = vec![1.0; 1 << 26];
    group.throughput(Throughput::BytesDecimal(4 * memory.len() as u64));
    group.bench_function("read memory", |bencher| {
        bencher.iter(|| limits::read_floats(pool::shared(), &memory));
    });
    let rounds = 100_000;
    let operations = limits::multiply_floats(pool::shared(), rounds);
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function("multiply float32", |bencher| {
        bencher.iter(|| limits::multiply_floats(pool::shared(), rounds));
    });
    let operations = limits::multiply_bytes(pool::shared(), rounds);
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function("multiply int8", |bencher| {
        bencher.iter(|| limits::multiply_bytes(pool::shared(), rounds));
    });
}

/// A matrix of weights that are all the same: only where they lie takes time.
fn matrix(shape: [usize; 2], format: Format) -> Matrix {
    let weights = shape[0] * shape[1];
    let bytes = |count: usize| {
        let all = Part::new(Arc::new(vec![0x33_u8; count]), 0..count);
        all.unwrap_or_else(Part::empty)
    };
    let groups = weights / format.group();
    let (scales, biases) = match format {
        Format::Dense(_) => (0, 0),
        Format::Affine { number, .. } => (groups * number.size(), groups * number.size()),
        Format::Mxfp4 | Format::Mxfp8 | Format::Nvfp4 => (groups, 0),
    };
    let parts = [weights * format.bits() / 8, scales, biases].map(bytes);
    let [codes, scales, biases] = parts;
    Matrix::new(shape, format, codes, scales, biases).unwrap_or_else(|problem| panic!("{problem}"))
}

fn linear(criterion: &mut Criterion) {
    let affine = |bits| Format::Affine {
        bits,
        group: 64,
        number: Number::Bfloat16,
    };
    let formats = [
        ("4 bits", affine(4)),
        ("6 bits", affine(6)),
        ("8 bits", affine(8)),
        ("mxfp4", Format::Mxfp4),
        ("bfloat16", Format::Dense(Number::Bfloat16)),
    ];
    for arithmetic in [Arithmetic::Int8, Arithmetic::Float32] {
        let mut decode = group(criterion, &format!("linear {arithmetic:?}, one token"));
        for (name, format) in formats {
            // Far more than caches hold.
            let matrix = matrix([1 << 17, HIDDEN], format);
            decode.throughput(Throughput::BytesDecimal(matrix.bytes() as u64));
            let x = numbers(HIDDEN);
            let mut out = vec![0.0; matrix.rows()];
            decode.bench_function(name, |bencher| {
                bencher.iter(|| product(&matrix, &x, arithmetic, &mut out));
            });
        }
        decode.finish();
        let mut prefill = group(
            criterion,
            &format!("linear {arithmetic:?}, {TOKENS} tokens"),
        );
        for (name, format) in formats {
            let matrix = matrix([3 * HIDDEN, HIDDEN], format);
            let operations = 2 * TOKENS * matrix.rows() * matrix.columns();
            prefill.throughput(Throughput::Elements(operations as u64));
            let x = numbers(TOKENS * HIDDEN);
            let mut out = vec![0.0; TOKENS * matrix.rows()];
            prefill.bench_function(name, |bencher| {
                bencher.iter(|| product(&matrix, &x, arithmetic, &mut out));
            });
        }
    }
}

fn product(matrix: &Matrix, x: &[f32], arithmetic: Arithmetic, out: &mut [f32]) {
    let product = Product {
        matrix,
        bias: None,
        then: Then::Store,
        out,
    };
    multiply(pool::shared(), x, arithmetic, vec![product]);
}

fn attention(criterion: &mut Criterion) {
    let attention = Attention {
        heads: 16,
        kv_heads: 8,
        width: 128,
        value_width: 128,
        scale: 0.1,
        window: None,
        sinks: None,
        number: CacheNumber::I8,
    };
    let row = attention.heads * attention.width;
    let mut group = group(criterion, "attention");
    let length = 1 << 14;
    // Codes, and scales that are small floats.
    let row_bytes = attention.number.row_bytes(attention.width);
    let caches = (0..length / PAGE).map(|_| vec![0x38_u8; attention.kv_heads * PAGE * row_bytes]);
    let caches: Vec<Vec<u8>> = caches.collect();
    let pages = caches.iter().map(|cache| Page {
        keys: cache,
        values: cache,
    });
    let pages: Vec<Page<'_>> = pages.collect();
    for rows in [1, TOKENS] {
        let segment = AttentionSegment {
            rows,
            length,
            pages: &pages,
        };
        let queries = numbers(rows * row);
        let mut out = vec![0.0; queries.len()];
        let (name, throughput) = if rows == 1 {
            let bytes =
                Throughput::BytesDecimal((2 * attention.kv_heads * length * row_bytes) as u64);
            (format!("one row over {length}"), bytes)
        } else {
            // Each pair of a row and a position that it sees: a score and a weighted value.
            let pairs = rows * (length - rows) + rows * (rows + 1) / 2;
            let operations = Throughput::Elements((4 * row * pairs) as u64);
            (format!("{rows} rows over {length}"), operations)
        };
        group.throughput(throughput);
        group.bench_function(name, |bencher| {
            bencher.iter(|| attend(pool::shared(), &attention, &[segment], &queries, &mut out));
        });
    }
}

fn elementwise(criterion: &mut Criterion) {
    let mut group = group(criterion, "elementwise");
    for tokens in [1, TOKENS] {
        let (x, other) = (numbers(tokens * HIDDEN), numbers(tokens * HIDDEN));
        let mut out = vec![0.0; x.len()];
        group.throughput(Throughput::BytesDecimal(8 * x.len() as u64));
        group.bench_function(format!("norm of {tokens}"), |bencher| {
            bencher.iter(|| rms_norm(pool::shared(), &x, &other[..HIDDEN], 1e-6, &mut out));
        });
        group.throughput(Throughput::BytesDecimal(12 * x.len() as u64));
        group.bench_function(format!("gate of {tokens}"), |bencher| {
            bencher.iter(|| gate(pool::shared(), Activation::Silu, &x, &other, &mut out));
        });
    }
}

fn sampling(criterion: &mut Criterion) {
    let mut group = group(criterion, "sampling");
    // The vocabulary of Qwen3; cubes have most of them near the middle, as with a model.
    let logits: Vec<f32> = numbers(151_936).iter().map(|x| 20.0 * x * x * x).collect();
    let default = Sampling::default();
    let settings = [
        ("greedy", Sampling::greedy()),
        ("default", default.clone()),
        (
            "penalties",
            Sampling {
                repeat_penalty: 1.1,
                ..default.clone()
            },
        ),
        (
            "top-p alone",
            Sampling {
                top_k: 0,
                ..default.clone()
            },
        ),
        (
            "all tokens",
            Sampling {
                top_k: 0,
                top_p: 1.0,
                ..default
            },
        ),
    ];
    let window: Vec<i32> = (0..64).map(|token| token * 2000).collect();
    group.throughput(Throughput::BytesDecimal(4 * logits.len() as u64));
    for (name, sampling) in settings {
        let seen = if sampling.has_penalties() {
            &window[..]
        } else {
            &[]
        };
        let mut position = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                position += 1;
                choose(&logits, &sampling, seen, None, Noise::new(1, position))
            });
        });
    }
}

criterion_group!(kernels, machine, linear, attention, elementwise, sampling);
criterion_main!(kernels);
