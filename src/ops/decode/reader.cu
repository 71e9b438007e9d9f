// From a matrix in memory to a ring of steps in shared memory.

namespace mlxr {

// A warp's share of a matrix.
//
// Of experts, a stack of matrices, only those that the token takes are read: gates one after the other, as one with
// more rows; and what leads back to the hidden states side by side, as one with more inputs.
struct Matrix {
  Instruction in;
  const int* experts;
  // Inputs of one expert, and how many experts they are of.
  int segment, segments;
  int taken, rows, kind, each, end, groups, mine, share, lane, warp, first, last;

  __device__ __forceinline__ Matrix(const Instruction& in, const int* experts) : in(in), experts(experts) {
    segment = in.integer(1);
    segments = 1;
    taken = in.integer(31);
    kind = in.integer(7);
    rows = in.integer(11);
    each = in.integer(14);
    warp = threadIdx.x / 32;
    lane = threadIdx.x % 32;
    share = warp % each;
    groups = WARPS / each;
    // A block's tiles lie together: few pages of memory at a time.
    int tiles = kind == GATE ? rows / 8 : rows / 16;
    if (taken && kind == GATE) tiles *= taken;
    else if (taken) segment /= segments = taken;
    mine = blockIdx.x * tiles / gridDim.x + warp / each;
    end = (blockIdx.x + 1) * tiles / gridDim.x;
  }

  // Steps that a row of one expert takes.
  template <typename L>
  __device__ __forceinline__ int steps() const {
    return (segment + (L::IS_RAGGED ? L::STEP - 1 : 0)) / L::STEP;
  }

  // The warp's steps of a tile, of those from `from` to `to`: every so many, so that what the warps read at one time
  // lies together.
  __device__ __forceinline__ void bound(int from, int to) {
    first = from + share;
    last = to;
  }

  __device__ __forceinline__ bool is_idle() const { return first >= last; }
};

// Into shared memory.
template <int BYTES>
__device__ __forceinline__ void fetch(unsigned to, const char* from) {
  if constexpr (BYTES >= 16) {
#pragma unroll
    for (int i = 0; i < BYTES; i += 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + i), "l"(from + i) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
  }
}

// As much of 4 bytes as there is; the rest is zeros.
__device__ __forceinline__ void fetch_some(unsigned to, const char* from, bool is_there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(is_there ? 4 : 0) : "memory");
}

// 16 bytes of what is read once in a step, or zeros: what is read in each layer shall stay in the cache.
__device__ __forceinline__ void fetch_once(unsigned to, const char* from, unsigned long long policy, bool is_there) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(from),
               "r"(is_there ? 16 : 0), "l"(policy) : "memory");
}

// 16 bytes of what is read once in a step: what is read in each layer shall stay in the cache.
__device__ __forceinline__ void fetch_once(unsigned to, const char* from, unsigned long long policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy) : "memory");
}

// Reads a warp's share of a matrix, step after step, into a ring in shared memory.
template <int ROWS, int VARIANT, int SCALES>
struct Reader {
  using L = Layout<ROWS, VARIANT>;
  static constexpr int NUMBER = SCALES == FLOAT32 ? 4 : 2;
  // Bytes of a row's scales in a step, and of its biases. Those of ragged rows of MXFP4 begin within a word.
  static constexpr int FETCHED = L::AFFINE ? 2 * L::IN_HALF * NUMBER : L::FORMAT == NVFP4 ? 16 : L::FORMAT != MXFP4 ? 0 : L::IS_RAGGED ? 12 : 8;
  // Of each half, lane after lane, 16 bytes of row g, then of row g + 8; then the rows' scales and biases.
  static constexpr int SLOT = 2048 + (L::AFFINE ? 32 : 16) * FETCHED;
  static constexpr int BYTES = WARPS * AHEAD<ROWS> * SLOT;

  const Matrix m;
  // Steps until which rows lie one after the other.
  int tile, at, until, slot;
  unsigned to;
  unsigned long long policy;
  const char* rows[2];
  const char* numbers;
  // Bytes of the lane's rows, and of their scales, that are still to come: where rows are ragged.
  int left, left_of_scales;

  __device__ __forceinline__ Reader(const Matrix& m, const char* ring) : m(m) {
    tile = m.is_idle() ? m.end : m.mine;
    at = m.first;
    slot = 0;
    to = (unsigned)__cvta_generic_to_shared(ring) + m.warp * (AHEAD<ROWS> * SLOT);
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    turn();
  }

  // Bytes of scales of MXFP4 or NVFP4: of a step, of a row, and before those of a row in the word where they begin
  // (rows of even numbers begin with one, and all have two at least).
  static constexpr int OF_A_STEP = L::FORMAT == MXFP4 ? 8 : 16;
  __device__ static __forceinline__ int scales(int inputs) { return inputs / (256 / OF_A_STEP); }
  __device__ static __forceinline__ int within(int row, int inputs) {
    return L::FORMAT == MXFP4 && L::IS_RAGGED && row % 2 ? scales(inputs) % 4 : 0;
  }

  // To the rows of a tile, from a step on.
  __device__ __forceinline__ void turn() {
    if (tile >= m.end) return;
    int part = 0, other = 1, row = tile * 8, below = 0, from = at;
    until = m.last;
    if (m.kind == GATE) {
      if (m.taken) row = m.experts[row / m.rows] * m.rows + row % m.rows;
    } else {
      row = tile * 16;
      below = 8;
      for (int parts = m.in.integer(10); part + 1 < parts && row >= m.in.integer(20 + 5 * part); part++)
        row -= m.in.integer(20 + 5 * part);
      other = part;
      if (m.taken) {
        int steps = m.steps<L>(), expert = at / steps;
        row += m.experts[expert] * m.rows;
        from = at % steps;
        until = min(until, (expert + 1) * steps);
      }
    }
    int g = m.lane / 4, t = m.lane % 4;
    size_t bytes = (size_t)m.segment * L::BITS / 8;
    rows[0] = m.in.address<char>(16 + 5 * part) + (row + g) * bytes + t * 16 + from * 128;
    rows[1] = m.in.address<char>(16 + 5 * other) + (row + below + g) * bytes + t * 16 + from * 128;
    left = (int)bytes - t * 16 - from * 128;
    if constexpr (L::AFFINE) {
      int of = m.lane < 16 ? part : other, of_row = row + m.lane / 2 % 8 + (m.lane < 16 ? 0 : below);
      size_t steps = m.steps<L>();
      numbers = m.in.address<char>(17 + m.lane % 2 + 5 * of) + (of_row * steps + from) * FETCHED;
    }
    if constexpr (L::IS_FLOAT4) {
      int of = m.lane < 8 ? part : other, of_row = row + m.lane % 8 + (m.lane < 8 ? 0 : below);
      int before = from * OF_A_STEP;
      numbers = m.in.address<char>(17 + 5 * of) + of_row * (size_t)scales(m.segment) + before - within(m.lane, m.segment);
      left_of_scales = scales(m.segment) - before + within(m.lane, m.segment);
    }
  }

  __device__ __forceinline__ void next() {
    if (tile < m.end) {
      unsigned here = to + slot * SLOT;
      if constexpr (L::IS_RAGGED) {
        fetch_once(here + m.lane * 16, rows[0], policy, left > 0);
        fetch_once(here + m.lane * 16 + 512, rows[1], policy, left > 0);
        fetch_once(here + m.lane * 16 + 1024, rows[0] + 64, policy, left > 64);
        fetch_once(here + m.lane * 16 + 1536, rows[1] + 64, policy, left > 64);
        left -= 128 * m.each;
      } else {
        fetch_once(here + m.lane * 16, rows[0], policy);
        fetch_once(here + m.lane * 16 + 512, rows[1], policy);
        fetch_once(here + m.lane * 16 + 1024, rows[0] + 64, policy);
        fetch_once(here + m.lane * 16 + 1536, rows[1] + 64, policy);
      }
      rows[0] += 128 * m.each;
      rows[1] += 128 * m.each;
      if constexpr (L::AFFINE) {
        fetch<FETCHED>(here + 2048 + m.lane * FETCHED, numbers);
        numbers += FETCHED * m.each;
      }
      if constexpr (L::IS_FLOAT4) {
        unsigned there = here + 2048 + m.lane * FETCHED;
        if (m.lane < 16) {
          if constexpr (L::IS_RAGGED) {
#pragma unroll
            for (int i = 0; i < FETCHED; i += 4) fetch_some(there + i, numbers + i, i < left_of_scales);
          } else {
            fetch<FETCHED>(there, numbers);
          }
        }
        numbers += OF_A_STEP * m.each;
        left_of_scales -= OF_A_STEP * m.each;
      }
      at += m.each;
      if (at >= until) {
        if (at >= m.last) {
          at = m.first;
          tile += m.groups;
        }
        turn();
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    slot = slot + 1 == AHEAD<ROWS> ? 0 : slot + 1;
  }
};

} // namespace mlxr
