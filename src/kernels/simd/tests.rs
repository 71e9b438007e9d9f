//! Every instruction set against the plain loops, bit by bit.

use super::{Instructions, Kernel, Simd, exp, run_with};

/// Bytes that look random, from a number.
fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Eight floats whose sums are exact in any order.
fn floats(seed: u32) -> [f32; 8] {
    let mut floats = [0.0; 8];
    for (float, byte) in floats.iter_mut().zip(noise(seed, 8)) {
        *float = (f32::from(byte) - 127.0) / 16.0;
    }
    floats
}

/// Runs every function, and gives what each stores.
struct Everything(u32);

#[derive(Default)]
struct Results(Vec<(&'static str, Vec<u8>)>);

impl Results {
    fn floats<S: Simd>(&mut self, name: &'static str, value: S::Floats) {
        let mut out = [0f32; 8];
        // SAFETY: eight floats.
        unsafe { S::store(out.as_mut_ptr(), value) };
        self.numbers(name, &out);
    }

    fn integers<S: Simd>(&mut self, name: &'static str, value: S::Integers) {
        self.floats::<S>(name, S::to_floats(value));
    }

    fn bytes<S: Simd>(&mut self, name: &'static str, value: S::Bytes) {
        let mut out = vec![0; 32];
        // SAFETY: 32 bytes.
        unsafe { S::store_bytes(out.as_mut_ptr(), value) };
        self.0.push((name, out));
    }

    fn numbers(&mut self, name: &'static str, numbers: &[f32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.0.push((name, bytes.collect()));
    }
}

impl Kernel for Everything {
    type Output = Results;

    fn run<S: Simd>(self) -> Results {
        let mut results = Results::default();
        self.floats::<S>(&mut results);
        self.integers::<S>(&mut results);
        self.bytes::<S>(&mut results);
        self.sums::<S>(&mut results);
        results
    }
}

impl Everything {
    fn floats<S: Simd>(&self, results: &mut Results) {
        let numbers = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| floats(self.0 + i));
        let raw = noise(self.0, 32);
        let mut halves = [0; 16];
        let mut rows = [S::splat(0.0); 8];
        // SAFETY: arrays of eight floats and of 32 bytes.
        unsafe {
            for (row, numbers) in rows.iter_mut().zip(&numbers) {
                *row = S::load(numbers.as_ptr());
            }
            let scales = numbers[0].as_ptr();
            results.floats::<S>("scales of 16", S::group_scales::<16>(scales));
            results.floats::<S>("scales of 32", S::group_scales::<32>(scales));
            results.floats::<S>("scales of 64", S::group_scales::<64>(scales));
            results.floats::<S>("scales of 128", S::group_scales::<128>(scales));
            results.floats::<S>("load_bfloat", S::load_bfloat(raw.as_ptr()));
            results.floats::<S>("load_e4m3", S::load_e4m3(raw.as_ptr()));
            results.floats::<S>("load_codes", S::load_codes(raw.as_ptr()));
            S::store_half(halves.as_mut_ptr(), S::div(rows[0], rows[1]));
            results.floats::<S>("load_half", S::load_half(halves.as_ptr()));
        }
        results.0.push(("store_half", halves.to_vec()));
        let [a, b, c, d, ..] = rows;
        results.floats::<S>("splat", S::splat(1.5));
        results.floats::<S>("folded", S::folded(S::widened(a)));
        results.floats::<S>("add", S::add(a, b));
        results.floats::<S>("sub", S::sub(a, b));
        results.floats::<S>("mul", S::mul(a, b));
        results.floats::<S>("div", S::div(a, S::add(S::abs(b), S::splat(0.5))));
        results.floats::<S>("fma", S::fma(a, S::splat(0.1), b));
        results.floats::<S>("max", S::max(a, b));
        results.floats::<S>("min", S::min(a, b));
        results.floats::<S>("max of NaN", S::max(a, S::splat(f32::NAN)));
        results.floats::<S>("min of NaN", S::min(a, S::splat(f32::NAN)));
        results.floats::<S>("abs", S::abs(a));
        results.floats::<S>("exp", exp::<S>(a));
        results.numbers("sum", &[S::sum(a)]);
        results.numbers("largest", &[S::largest(a)]);
        results.numbers("sum4", &S::sum4([a, b, c, d]));
        for column in S::transpose_floats(rows) {
            results.floats::<S>("transpose_floats", column);
        }
    }

    fn integers<S: Simd>(&self, results: &mut Results) {
        let (mut numbers, shifts) = ([S::zero_integers(); 4], [0, 3, 6, 9, 28, 20, 11, 31]);
        for (i, integers) in (0..).zip(&mut numbers) {
            // SAFETY: eight floats.
            *integers = S::round(S::mul(
                unsafe { S::load(floats(self.0 + i).as_ptr()) },
                S::splat(8.0),
            ));
            results.integers::<S>("round", *integers);
        }
        results.integers::<S>("add_integers", S::add_integers(numbers[0], numbers[1]));
        results.integers::<S>("splat_integer", S::splat_integer(-70_000));
        let small = S::round(S::splat(-3.0));
        results.floats::<S>("scale_by_power", S::scale_by_power(S::splat(1.25), small));
        results.bytes::<S>("pack", S::pack(numbers));
        let (low, high) = (self.0.wrapping_mul(0x9e37_79b9), 0xfedc_ba98);
        results.integers::<S>("spread", S::spread(low, high, &shifts, 0x7ff));
    }

    fn bytes<S: Simd>(&self, results: &mut Results) {
        let raw = noise(self.0, 256);
        let table = std::array::from_fn(|i| raw[i]);
        // SAFETY: 256 bytes.
        let rows = unsafe {
            results.bytes::<S>("splat_word", S::splat_word(raw.as_ptr().cast()));
            let mut rows = [S::splat_word(raw.as_ptr().cast()); 8];
            for (row, bytes) in rows.iter_mut().zip(raw.chunks(32)) {
                *row = S::load_bytes(bytes.as_ptr());
            }
            rows
        };
        results.bytes::<S>("low_nibbles", S::low_nibbles(rows[0]));
        results.bytes::<S>("high_nibbles", S::high_nibbles(rows[0]));
        results.bytes::<S>("look_up", S::look_up(&table, S::low_nibbles(rows[1])));
        for bytes in S::deinterleave(rows[0], rows[1]) {
            results.bytes::<S>("deinterleave", bytes);
        }
        for floats in S::unsigned_bytes(rows[0]) {
            results.floats::<S>("unsigned_bytes", floats);
        }
        for column in S::transpose(rows) {
            results.bytes::<S>("transpose", column);
        }
        // SAFETY: 256 bytes.
        let [a, b] = [0, 16].map(|at| unsafe { S::load_pairs(raw.as_ptr().add(at)) });
        results.bytes::<S>("load_pairs", a);
        let [low, high] = S::pair_floats(rows[3]).map(|x| S::mul(x, S::splat(0.1)));
        results.bytes::<S>("bfloat_pairs", S::bfloat_pairs(low, high));
        results.floats::<S>("bfloat_rest", S::bfloat_rest(low));
        results.bytes::<S>(
            "bfloat_pairs of NaN",
            S::bfloat_pairs(S::splat(f32::NAN), low),
        );
        for floats in S::pair_floats(rows[2]) {
            results.floats::<S>("pair_floats", floats);
        }
        let [low, high] = [a, b].map(|x| S::dot_pairs(S::splat_integer(-9), x, b));
        results.integers::<S>("dot_pairs", low);
        let [low, high] = [low, high].map(|x| S::round(S::mul(S::to_floats(x), S::splat(0.5))));
        results.bytes::<S>("pack_pairs", S::pack_pairs(low, high));
    }

    fn sums<S: Simd>(&self, results: &mut Results) {
        let mut raw = noise(self.0, 96);
        // The largest products there are.
        raw[..4].fill(255);
        raw[32..36].fill(127);
        let (codes, x) = raw.split_at(32);
        let largest: Vec<u8> = codes.iter().map(|code| code & 127).collect();
        let half: Vec<u8> = codes.iter().map(|code| code & 63).collect();
        let x_bytes: Vec<i8> = x.iter().map(|&x| x.cast_signed().max(-127)).collect();
        // SAFETY: 32 bytes each.
        unsafe {
            let [codes, largest, half] =
                [codes, &largest, &half].map(|from| S::load_bytes(from.as_ptr()));
            let [x, y] =
                [&x_bytes[..32], &x_bytes[32..]].map(|from| S::load_bytes(from.as_ptr().cast()));
            let once = S::dot(S::zero_sums(), largest, x);
            results.integers::<S>("dot once", S::finish(once));
            let twice = S::dot(S::dot(S::zero_sums(), half, x), half, y);
            results.integers::<S>("dot twice", S::finish(twice));
            // Pairs whose sizes add up to 128.
            let mut bounded: Vec<i8> = x_bytes[..32].iter().map(|&x| x / 2).collect();
            bounded[..4].copy_from_slice(&[64, 64, -127, 1]);
            let bounded = S::load_bytes(bounded.as_ptr().cast());
            let offset = S::load_bytes([S::UNSIGNED_OFFSET; 32].as_ptr());
            let unsigned = S::dot_unsigned(S::splat_integer(5), codes, bounded);
            let unsigned = add_products::<S>(unsigned, offset, bounded);
            results.integers::<S>("dot_unsigned", unsigned);
            let (codes, offset) = (S::wide(codes), S::load_bytes([S::WIDE_OFFSET; 32].as_ptr()));
            let mut wide = S::zero_integers();
            for x in [x, y] {
                wide = add_products::<S>(S::dot_wide(wide, codes, x), offset, x);
            }
            results.integers::<S>("dot_wide", wide);
            // Whole numbers that floats hold.
            let factors = [1, 2, 3, 7, 11, 100, 200, 250].map(S::factor);
            let factors = S::load_bytes(factors.as_ptr().cast());
            results.floats::<S>("scaled", S::scaled(once, factors));
            let products = S::products_wide(codes, x);
            let shifted = add_products::<S>(S::zero_integers(), offset, x);
            let shifted = S::mul(S::to_floats(shifted), S::splat(3.0));
            let splat = S::factor(3);
            let products = S::scaled(products, S::splat_word(splat.as_ptr().cast()));
            results.floats::<S>("products_wide", S::add(products, shifted));
        }
    }
}

/// Adds products of unsigned bytes with signed ones, in the plainest way.
unsafe fn add_products<S: Simd>(sums: S::Integers, codes: S::Bytes, x: S::Bytes) -> S::Integers {
    let (mut left, mut right) = ([0u8; 32], [0u8; 32]);
    let mut products = [0f32; 8];
    // SAFETY: 32 bytes each, and eight floats.
    unsafe {
        S::store_bytes(left.as_mut_ptr(), codes);
        S::store_bytes(right.as_mut_ptr(), x);
        for i in 0..32 {
            products[i / 4] += f32::from(left[i]) * f32::from(right[i].cast_signed());
        }
        S::add_integers(sums, S::round(S::load(products.as_ptr())))
    }
}

#[test]
fn every_instruction_set_computes_what_plain_loops_do() {
    for seed in 0..200 {
        let expected = run_with(Instructions::Portable, Everything(seed));
        for instructions in Instructions::available() {
            let found = run_with(instructions, Everything(seed));
            for ((name, expected), (_, found)) in expected.0.iter().zip(&found.0) {
                assert_eq!(expected, found, "{name} with {instructions}, seed {seed}");
            }
        }
    }
}
