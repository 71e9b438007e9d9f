// y = W norm(x) for up to 16 rows of x, on tensor cores, at the speed of memory.
//
// A tile is 16 rows of W (or 8 rows of each of two matrices, for a gate). Some warps share a tile along the inputs.
// A step of a warp is 64 bytes of each of its 16 rows: lane 4g + t has 16 bytes of row g and 16 of row g + 8, whose
// weights become the A operand of m16n8k16 as they are: which input is which k does not matter as long as x, the
// B operand, lies alike in shared memory.
//
// B has eight columns (or more, in several products), more than there are rows of x. The others serve exactness and
// scales: x is the sum of up to three bfloat16 numbers, each in a column of its own, and where a step spans several
// groups of a packed matrix each group has a column which is zero at the other groups' inputs.

namespace mlxr {

template <int ROWS, int VARIANT>
struct Layout {
  static constexpr bool AFFINE = VARIANT >= AFFINE4_32 && VARIANT <= AFFINE8_64;
  static constexpr int BITS = VARIANT == DENSE_BF16 ? 16 : VARIANT == DENSE_F32 ? 32 : VARIANT <= AFFINE4_128 ? 4 : 8;
  // Inputs of a step.
  static constexpr int SPAN = 512 / BITS;
  static constexpr int GROUPS = VARIANT == AFFINE4_32 ? 4 : VARIANT == AFFINE4_64 || VARIANT == AFFINE8_32 ? 2 : 1;
  // Columns that belong to a row of x.
  static constexpr int LEAST = ROWS >= 8 ? 1 : 8 / ROWS;
  static constexpr int COLUMNS = LEAST > GROUPS ? LEAST : GROUPS;
  static constexpr int PARTS = COLUMNS / GROUPS > 3 ? 3 : COLUMNS / GROUPS;
  static constexpr int TILES = ROWS * COLUMNS / 8;
  // 16-byte pieces of x that a lane reads in a step.
  static constexpr int PIECES = BITS == 32 ? 1 : 16 / BITS;
  // Between parts of x in bytes; the last 64 keep lanes on different banks.
  __device__ static int stride(int inputs) { return inputs * (BITS == 32 ? 4 : 2) + 64; }
};

// Steps that are on their way while one is computed, and room for x in shared memory.
template <int ROWS>
constexpr int AHEAD = ROWS == 16 ? 2 : 4;
template <int ROWS>
constexpr int ROOM = (ROWS == 16 ? 132 : 112) * 1024;

struct Shared {
  long long code[2][WORDS];
  float sums[WARPS];
  float factors[16];
  uint4 zeros[16];
};

// A warp's share of a matrix.
struct Matrix {
  Instruction in;
  int inputs, rows, kind, each, end, groups, mine, share, lane, warp, first, last;

  __device__ __forceinline__ Matrix(const Instruction& in) : in(in) {
    inputs = in.integer(1);
    kind = in.integer(7);
    rows = in.integer(11);
    each = in.integer(14);
    warp = threadIdx.x / 32;
    lane = threadIdx.x % 32;
    share = warp % each;
    groups = WARPS / each;
    // A block's tiles lie together: few pages of memory at a time.
    int tiles = kind == GATE ? rows / 8 : rows / 16;
    mine = blockIdx.x * tiles / gridDim.x + warp / each;
    end = (blockIdx.x + 1) * tiles / gridDim.x;
  }

  // The warp's steps of a tile, of those from `from` to `to`.
  __device__ __forceinline__ void bound(int from, int to) {
    first = from + share * (to - from) / each;
    last = from + (share + 1) * (to - from) / each;
  }

  __device__ __forceinline__ bool is_idle() const { return first >= last; }
};

// 16 bytes into shared memory.
__device__ __forceinline__ void fetch(unsigned to, const char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// The same of what is read once in a step: what is read in each layer shall stay in the cache.
__device__ __forceinline__ void fetch(unsigned to, const char* from, unsigned long long policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy) : "memory");
}

// Reads a warp's share of a matrix, step after step, into a ring in shared memory.
template <int ROWS, int VARIANT, int SCALES>
struct Reader {
  using L = Layout<ROWS, VARIANT>;
  static constexpr int NUMBER = SCALES == FLOAT32 ? 4 : 2;
  // Lane after lane 16 bytes of row g, then of row g + 8.
  static constexpr int SLOT = 1024;
  // Scales and biases come 16 bytes at once, which are those of some steps: of row g the scales, the biases.
  static constexpr int CHUNK = L::AFFINE ? 512 : 0;
  static constexpr int CHUNKS = AHEAD<ROWS> + 1;
  static constexpr int OF_WARP = AHEAD<ROWS> * SLOT + CHUNKS * CHUNK;
  static constexpr int BYTES = WARPS * OF_WARP;

  const Matrix m;
  int tile, at, shift, slot, chunk, chunk_slot;
  unsigned to;
  unsigned long long policy;
  const char* rows[2];
  const char* numbers;

  __device__ __forceinline__ Reader(const Matrix& m, const char* ring) : m(m) {
    tile = m.is_idle() ? m.end : m.mine;
    at = m.first;
    shift = L::AFFINE ? __ffs(m.in.integer(3)) - 1 : 0;
    slot = chunk_slot = 0;
    to = (unsigned)__cvta_generic_to_shared(ring) + m.warp * OF_WARP + m.lane * 16;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    turn();
  }

  // Where the scales of a step are, in bytes from the row's first.
  __device__ __forceinline__ int numbers_at(int at) const { return (at * L::SPAN >> shift) * NUMBER; }

  // To the rows of a tile.
  __device__ __forceinline__ void turn() {
    if (tile >= m.end) return;
    int part = 0, other = 1, row = tile * 8, below = 0;
    if (m.kind != GATE) {
      row = tile * 16;
      below = 8;
      for (int parts = m.in.integer(10); part + 1 < parts && row >= m.in.integer(20 + 5 * part); part++)
        row -= m.in.integer(20 + 5 * part);
      other = part;
    }
    int g = m.lane / 4, t = m.lane % 4;
    size_t bytes = (size_t)m.inputs * L::BITS / 8;
    rows[0] = m.in.address<char>(16 + 5 * part) + (row + g) * bytes + t * 16;
    rows[1] = m.in.address<char>(16 + 5 * other) + (row + below + g) * bytes + t * 16;
    if constexpr (L::AFFINE) {
      int of = m.lane < 16 ? part : other, of_row = row + m.lane / 2 % 8 + (m.lane < 16 ? 0 : below);
      numbers = m.in.address<char>(17 + m.lane % 2 + 5 * of) + (size_t)of_row * (m.inputs >> shift) * NUMBER;
      chunk = -1;
    }
  }

  __device__ __forceinline__ void next() {
    if (tile < m.end) {
      fetch(to + slot * SLOT, rows[0] + at * 64, policy);
      fetch(to + slot * SLOT + 512, rows[1] + at * 64, policy);
      if constexpr (L::AFFINE) {
        int needed = numbers_at(at) / 16;
        if (needed != chunk) {
          chunk = needed;
          fetch(to + AHEAD<ROWS> * SLOT + chunk_slot * CHUNK, numbers + chunk * 16);
          chunk_slot = chunk_slot + 1 == CHUNKS ? 0 : chunk_slot + 1;
        }
      }
      if (++at == m.last) {
        at = m.first;
        tile += m.groups;
        turn();
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    slot = slot + 1 == AHEAD<ROWS> ? 0 : slot + 1;
  }
};

// The numbers of two groups (or of one twice) of those of a row.
template <int SCALES, int GROUPS>
__device__ __forceinline__ float2 numbers_of(const char* from) {
  if constexpr (SCALES == FLOAT32) {
    const float* at = reinterpret_cast<const float*>(from);
    return make_float2(at[0], at[GROUPS > 1]);
  } else {
    const unsigned short* at = reinterpret_cast<const unsigned short*>(from);
    unsigned low = at[0], high = at[GROUPS > 1];
    return SCALES == BFLOAT16 ? make_float2(from_bf16(low), from_bf16(high))
                              : make_float2(from_f16(low), from_f16(high));
  }
}

__device__ __forceinline__ void multiply_tile(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                              unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// 128 + two of the eight numbers of 4 bits.
__device__ __forceinline__ unsigned nibbles(unsigned word, int shift) {
  return ((word >> shift) & 0x000f000fu) | 0x43004300u;
}

// Bytes `low` and `low + 1` as bfloat16, which holds them exactly: by way of float32 with 2^23 added.
__device__ __forceinline__ unsigned bytes(unsigned word, int low) {
  unsigned select = 0x7650u;
  float a = __uint_as_float(__byte_perm(word, 0x4b000000u, select | low)) - 8388608.0f;
  float b = __uint_as_float(__byte_perm(word, 0x4b000000u, select | (low + 1))) - 8388608.0f;
  return __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
}

// Two float32 numbers as the sum of three pairs of bfloat16.
__device__ __forceinline__ void split(float x, float y, unsigned (&parts)[3]) {
#pragma unroll
  for (int i = 0; i < 3; i++) {
    unsigned a = to_bf16(x), b = to_bf16(y);
    x -= from_bf16(a);
    y -= from_bf16(b);
    parts[i] = a | b << 16;
  }
}

__device__ __forceinline__ unsigned word_of(const uint4& from, int i) {
  return i == 0 ? from.x : i == 1 ? from.y : i == 2 ? from.z : from.w;
}

// One step: adds W x of its inputs to `sums`. `slot` and `numbers` are what was fetched for it, `x` points to the
// lane's column of the first tile of columns.
template <int ROWS, int VARIANT, int SCALES>
__device__ __forceinline__ void consume(const char* slot, const char* numbers, const char* x, int columns, const float2* inputs,
                                        float (&sums)[Layout<ROWS, VARIANT>::TILES][4]) {
  using L = Layout<ROWS, VARIANT>;
  int lane = threadIdx.x % 32;
  uint4 top = reinterpret_cast<const uint4*>(slot)[lane], bottom = reinterpret_cast<const uint4*>(slot)[32 + lane];
  if constexpr (!L::AFFINE) {
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++) {
      const char* here = x + tile * columns;
      if constexpr (VARIANT == DENSE_BF16) {
        uint4 b = *reinterpret_cast<const uint4*>(here);
        multiply_tile(sums[tile], top.x, bottom.x, top.y, bottom.y, b.x, b.y);
        multiply_tile(sums[tile], top.z, bottom.z, top.w, bottom.w, b.z, b.w);
      } else {
        uint2 b = *reinterpret_cast<const uint2*>(here);
        unsigned parts[4][3];
        split(__uint_as_float(top.x), __uint_as_float(top.y), parts[0]);
        split(__uint_as_float(bottom.x), __uint_as_float(bottom.y), parts[1]);
        split(__uint_as_float(top.z), __uint_as_float(top.w), parts[2]);
        split(__uint_as_float(bottom.z), __uint_as_float(bottom.w), parts[3]);
#pragma unroll
        for (int i = 2; i >= 0; i--) multiply_tile(sums[tile], parts[0][i], parts[1][i], parts[2][i], parts[3][i], b.x, b.y);
      }
    }
  } else {
    // Several sums, for none to wait for the one before.
    constexpr int CHAINS = L::TILES >= 4 ? 1 : L::TILES == 2 ? 2 : L::PIECES;
    float products[L::TILES][4], chains[CHAINS][L::TILES][4];
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++)
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) chains[chain][tile][i] = 0.0f;
#pragma unroll
    for (int piece = 0; piece < L::PIECES; piece++) {
      unsigned a[2][4];
      if constexpr (L::BITS == 4) {
        unsigned p = word_of(top, piece), q = word_of(bottom, piece);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          a[0][i] = nibbles(p, 4 * i);
          a[1][i] = nibbles(q, 4 * i);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          unsigned p = word_of(top, 2 * piece + i), q = word_of(bottom, 2 * piece + i);
          a[0][2 * i] = bytes(p, 0);
          a[0][2 * i + 1] = bytes(p, 2);
          a[1][2 * i] = bytes(q, 0);
          a[1][2 * i + 1] = bytes(q, 2);
        }
      }
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++) {
        uint4 b = *reinterpret_cast<const uint4*>(x + tile * columns + piece * 64);
        multiply_tile(chains[piece % CHAINS][tile], a[0][0], a[1][0], a[0][1], a[1][1], b.x, b.y);
        multiply_tile(chains[piece % CHAINS][tile], a[0][2], a[1][2], a[0][3], a[1][3], b.z, b.w);
      }
    }
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        products[tile][i] = chains[0][tile][i];
#pragma unroll
        for (int chain = 1; chain < CHAINS; chain++) products[tile][i] += chains[chain][tile][i];
      }
    // Numbers of 4 bits came with 128 added.
    constexpr float OFFSET = L::BITS == 4 ? 128.0f : 0.0f;
    numbers += lane / 4 * 32 + (L::GROUPS > 1 ? 2 * (lane % 4) % L::GROUPS * Reader<ROWS, VARIANT, SCALES>::NUMBER : 0);
    float2 s = numbers_of<SCALES, L::GROUPS>(numbers), b = numbers_of<SCALES, L::GROUPS>(numbers + 16);
    float2 u = numbers_of<SCALES, L::GROUPS>(numbers + 256), v = numbers_of<SCALES, L::GROUPS>(numbers + 272);
    b.x -= OFFSET * s.x;
    b.y -= OFFSET * s.y;
    v.x -= OFFSET * u.x;
    v.y -= OFFSET * u.y;
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++) {
      float2 sum = inputs[tile * 4];
      sums[tile][0] += s.x * products[tile][0] + b.x * sum.x;
      sums[tile][1] += s.y * products[tile][1] + b.y * sum.y;
      sums[tile][2] += u.x * products[tile][2] + v.x * sum.x;
      sums[tile][3] += u.y * products[tile][3] + v.y * sum.y;
    }
  }
}

// Where things lie in the shared memory that follows `Shared`.
template <int ROWS>
struct Places {
  float* products;  // [2][WARPS][ROWS][16]
  float* inputs;    // [steps][8 * TILES]: sums of the inputs of a column
  char* x;          // [ROWS][PARTS][inputs]
  __device__ Places(char* memory, int steps, int columns) {
    products = reinterpret_cast<float*>(memory);
    inputs = products + 2 * WARPS * ROWS * 16;
    x = reinterpret_cast<char*>(inputs + steps * columns);
  }
};

// Brings inputs `from..from + count` of x to shared memory, split into parts, and their sums over groups.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void bring(const Instruction& in, const Step& step, Shared& shared, const Places<ROWS>& places, int from,
                      int count) {
  using L = Layout<ROWS, VARIANT>;
  constexpr int EACH = WARPS / ROWS;
  constexpr int COLUMNS = 8 * L::TILES;
  constexpr int LANES = L::SPAN / L::GROUPS / 8 > 0 ? L::SPAN / L::GROUPS / 8 : 1;
  int inputs = in.integer(1);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int row = warp / EACH;
  const float* source = step.scratch + in.words[4] + (size_t)row * inputs + from;
  const float* norm = in.address<float>(5);
  int stride = L::stride(count);
  float squares = 0.0f;
  auto place = [&](int piece, float (&x)[8], const float (&weights)[8]) {
    bool is_there = piece < count / 8;
    if (norm) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        squares += x[i] * x[i];
        x[i] *= weights[i];
      }
    }
    int at = piece * 8 / L::SPAN, within = piece * 8 % L::SPAN;
    float zero_sum = 0.0f;
#pragma unroll
    for (int part = 0; part < L::PARTS; part++) {
      unsigned half[8];
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; i++) {
        half[i] = to_bf16(x[i]);
        float kept = from_bf16(half[i]);
        x[i] -= kept;
        sum += kept;
      }
      if (is_there) {
        char* to = places.x + (row * L::PARTS + part) * stride;
        if constexpr (L::BITS == 4) {
          // Lane t's words, pairs of numbers four apart: as `nibbles` takes them out.
          int t = within / 32, word = within % 32 / 8;
          reinterpret_cast<uint4*>(to)[(at * 4 + word) * 4 + t] =
              make_uint4(half[0] | half[4] << 16, half[1] | half[5] << 16, half[2] | half[6] << 16, half[3] | half[7] << 16);
        } else if constexpr (L::BITS == 8) {
          int t = within / 16, pair = within % 16 / 8;
          reinterpret_cast<uint4*>(to)[(at * 2 + pair) * 4 + t] =
              make_uint4(half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16, half[6] | half[7] << 16);
        } else if constexpr (L::BITS == 16) {
          reinterpret_cast<uint4*>(to)[at * 4 + within / 8] =
              make_uint4(half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16, half[6] | half[7] << 16);
        } else {
          // 16 bytes a lane as elsewhere, half of them unused.
          uint4* pieces = reinterpret_cast<uint4*>(to) + at * 4 + within / 4;
          pieces[0] = make_uint4(half[0] | half[1] << 16, half[2] | half[3] << 16, 0, 0);
          pieces[1] = make_uint4(half[4] | half[5] << 16, half[6] | half[7] << 16, 0, 0);
        }
      }
      if constexpr (L::AFFINE) {
#pragma unroll
        for (int o = LANES / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
        if (is_there && lane % LANES == 0) {
          int group = within / (L::SPAN / L::GROUPS);
          float* sums = places.inputs + at * COLUMNS + row * L::COLUMNS;
          sums[part * L::GROUPS + group] = sum;
          if (group == 0 && part == 0)
            for (int i = L::PARTS * L::GROUPS; i < L::COLUMNS; i++) sums[i] = zero_sum;
        }
      }
    }
  };
  // Some pieces at once: what takes time is the way to memory.
  constexpr int BATCH = 4;
  for (int base = warp % EACH * 32; base < count / 8; base += BATCH * EACH * 32) {
    float x[BATCH][8], weights[BATCH][8];
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      int piece = base + i * EACH * 32 + lane;
      bool is_there = piece < count / 8 && row < step.rows;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float4 a = make_float4(0, 0, 0, 0), b = a;
        if (is_there) a = __ldcg(reinterpret_cast<const float4*>(source) + 2 * piece + half);
        if (is_there && norm) b = __ldg(reinterpret_cast<const float4*>(norm) + 2 * piece + half);
        x[i][4 * half] = a.x, x[i][4 * half + 1] = a.y, x[i][4 * half + 2] = a.z, x[i][4 * half + 3] = a.w;
        weights[i][4 * half] = b.x, weights[i][4 * half + 1] = b.y, weights[i][4 * half + 2] = b.z, weights[i][4 * half + 3] = b.w;
      }
    }
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      int first = base + i * EACH * 32;
      if (first < count / 8) place(first + lane, x[i], weights[i]);
    }
  }
  squares = sum_of_warp(squares);
  if (lane == 0) shared.sums[warp] = squares;
  __syncthreads();
  // Each warp for itself: all write the same.
  float sum = lane < WARPS ? shared.sums[lane] : 0.0f;
#pragma unroll
  for (int o = EACH / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane < WARPS && lane % EACH == 0) shared.factors[lane / EACH] = norm ? rsqrtf(sum / inputs + in.number(6)) : 1.0f;
  __syncwarp();
}

__device__ __forceinline__ float activate(int activation, float x) {
  if (activation == 0) return x / (1.0f + __expf(-x));
  return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

// What the warps of a tile have found becomes outputs.
template <int ROWS>
__device__ __forceinline__ void finish(const Matrix& m, const Step& step, const Shared& shared,
                                       const float* products, int tile, int turn, bool is_first) {
  // Another warp each time.
  int thread = (m.share + turn) % m.each * 32 + m.lane;
  const Instruction& in = m.in;
  int outputs = m.kind == GATE ? 8 : 16;
  for (int i = thread; i < outputs * ROWS; i += m.each * 32) {
    int row = i / outputs, place = i % outputs;
    if (row >= step.rows) break;
    auto total = [&](int place) {
      float sum = 0.0f;
      for (int warp = 0; warp < m.each; warp++) sum += products[(warp * ROWS + row) * 16 + place];
      return sum * shared.factors[row];
    };
    int output = tile * outputs + place, part = 0, in_part = output;
    if (m.kind != GATE)
      while (part + 1 < in.integer(10) && in_part >= in.integer(20 + 5 * part)) in_part -= in.integer(20 + 5 * part++);
    const float* bias = in.address<float>(19 + 5 * part);
    float y = total(place);
    if (bias && is_first) y += __ldg(bias + in_part);
    if (m.kind == GATE) {
      float up = total(place + 8);
      const float* bias = in.address<float>(24);
      if (bias) up += __ldg(bias + in_part);
      y = activate(in.integer(9), y) * up;
    }
    if (m.kind == LOGITS) {
      float cap = in.number(13);
      if (cap != 0.0f) y = cap * tanhf(y / cap);
      step.logits[(size_t)row * m.rows + output] = y;
    } else {
      float* to = step.scratch + in.words[8] + (size_t)row * m.rows + output;
      if (m.kind == ADD || !is_first) y += __ldcg(to);
      __stcg(to, y);
    }
  }
}

// Steps whose inputs fit in shared memory at once.
template <int ROWS, int VARIANT>
__device__ __forceinline__ int most_steps(const Instruction& in) {
  using L = Layout<ROWS, VARIANT>;
  int steps = in.integer(1) / L::SPAN;
  int room = ROOM<ROWS> / (ROWS * L::PARTS * L::SPAN * (L::BITS == 32 ? 4 : 2));
  int passes = (steps + room - 1) / room;
  return (steps + passes - 1) / passes;
}

template <int ROWS, int VARIANT, int SCALES>
__device__ __forceinline__ void multiply(const Instruction& in, const Step& step, Shared& shared, char* memory) {
  using L = Layout<ROWS, VARIANT>;
  using R = Reader<ROWS, VARIANT, SCALES>;
  constexpr int COLUMNS = 8 * L::TILES;
  Matrix m(in);
  int steps = m.inputs / L::SPAN, most = most_steps<ROWS, VARIANT>(in);
  Places<ROWS> places(memory + R::BYTES, most, COLUMNS);
  int side = 0, turn = 0;
  for (int from = 0; from < steps; from += most) {
    int count = steps - from < most ? steps - from : most;
    m.bound(from, from + count);
    unsigned before = 0;
    // The first weights are on their way while other blocks still work on what x is made of; and what lay in
    // shared memory is no longer needed when all have come.
    if (from == 0) before = arrive(step.barrier);
    R reader(m, memory);
#pragma unroll
    for (int i = 0; i < AHEAD<ROWS>; i++) reader.next();
    if (from == 0) wait(step.barrier, before);
    else __syncthreads();
    bring<ROWS, VARIANT>(in, step, shared, places, from * L::SPAN, count * L::SPAN);

    // The lane's column of B.
    int g = m.lane / 4, t = m.lane % 4;
    int within = g % L::COLUMNS;
    bool is_zero = within >= L::PARTS * L::GROUPS || within % L::GROUPS != t * L::GROUPS / 4;
    int stride = L::stride(count * L::SPAN);
    const char* x = places.x + (g / L::COLUMNS * L::PARTS + within / L::GROUPS) * stride + t * 16;
    int next_tile = 8 / L::COLUMNS * L::PARTS * stride, next_step = L::PIECES * 64;
    if (is_zero) {
      x = reinterpret_cast<const char*>(shared.zeros);
      next_tile = next_step = 0;
    }
    float sums[L::TILES][4];
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
      for (int i = 0; i < 4; i++) sums[tile][i] = 0.0f;
    // A warp without steps still has to hand in its zeros.
    int tile = m.mine, place = m.first, chunk = -1, chunk_slot = -1;
    const char* ring = memory + m.warp * R::OF_WARP;
    while (tile < m.end) {
      if (!m.is_idle()) {
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD<ROWS> - 1) : "memory");
        __syncwarp();
        int at = place - from;
        const float2* inputs = reinterpret_cast<const float2*>(places.inputs + at * COLUMNS) + t;
        const char* slot = ring + reader.slot * R::SLOT;
        int needed = reader.numbers_at(place);
        if (L::AFFINE && needed / 16 != chunk) {
          chunk = needed / 16;
          chunk_slot = chunk_slot + 1 == R::CHUNKS ? 0 : chunk_slot + 1;
        }
        const char* numbers = ring + AHEAD<ROWS> * R::SLOT + chunk_slot * R::CHUNK + needed % 16;
        consume<ROWS, VARIANT, SCALES>(slot, numbers, x + at * next_step, next_tile, inputs, sums);
        __syncwarp();
        reader.next();
        if (++place < m.last) continue;
      }
      // The tile is done.
      float* products = places.products + (side * WARPS + m.warp / m.each * m.each) * ROWS * 16;
      float* own = products + m.share * ROWS * 16;
#pragma unroll
      for (int column = 0; column < L::TILES; column++) {
        float* c = sums[column];
        if constexpr (L::COLUMNS == 1) {
          int row = column * 8 + 2 * t;
          own[row * 16 + g] = c[0];
          own[(row + 1) * 16 + g] = c[1];
          own[row * 16 + g + 8] = c[2];
          own[(row + 1) * 16 + g + 8] = c[3];
        } else {
          float a = c[0] + c[1], b = c[2] + c[3];
#pragma unroll
          for (int o = 1; o < L::COLUMNS / 2; o *= 2) {
            a += __shfl_xor_sync(0xffffffffu, a, o);
            b += __shfl_xor_sync(0xffffffffu, b, o);
          }
          if (t % (L::COLUMNS / 2) == 0) {
            int row = column * (8 / L::COLUMNS) + t / (L::COLUMNS / 2);
            own[row * 16 + g] = a;
            own[row * 16 + g + 8] = b;
          }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] = 0.0f;
      }
      if (m.each == 1) __syncwarp();
      else asm volatile("bar.sync %0, %1;" ::"r"(1 + m.warp / m.each), "r"(m.each * 32) : "memory");
      finish<ROWS>(m, step, shared, products, tile, turn++, from == 0);
      side ^= 1;
      place = m.first;
      chunk = -1;
      tile += m.groups;
    }
  }
}

} // namespace mlxr
