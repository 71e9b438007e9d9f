// From a matrix in memory to the rings of the warps that multiply with it.

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
  int taken, rows, kind, each, end, groups, mine, share, warp, first, last;

  __device__ __forceinline__ Matrix(const Instruction& in, const int* experts, int warp)
      : in(in), experts(experts), warp(warp) {
    segment = in.integer(1);
    segments = 1;
    taken = in.integer(31);
    kind = in.integer(7);
    rows = in.integer(11);
    each = in.integer(14);
    share = warp % each;
    groups = WARPS / each;
    // A block's tiles lie together: few pages of memory at a time.
    int tiles = kind == GATE ? rows / 8 : rows / 16;
    if (taken && kind == GATE) tiles *= taken;
    else if (taken) segment /= segments = taken;
    mine = blockIdx.x * tiles / gridDim.x + warp / each;
    end = (blockIdx.x + 1) * tiles / gridDim.x;
  }

  // Steps that a row of one expert has.
  template <typename L>
  __device__ __forceinline__ int whole() const {
    return (segment + (L::IS_RAGGED ? L::STEP - 1 : 0)) / L::STEP;
  }

  // And that it takes: warps that are read for together take theirs of one expert.
  template <typename L>
  __device__ __forceinline__ int steps() const {
    return segments > 1 ? (whole<L>() + TOGETHER - 1) / TOGETHER * TOGETHER : whole<L>();
  }

  // The steps of a tile, of those from `from` to `to`, that some warps take together: every so many, so that what all read
  // at one time lies together.
  __device__ __forceinline__ void bound(int from, int to) {
    first = from + share / TOGETHER * TOGETHER;
    last = to;
  }

  __device__ __forceinline__ bool is_idle() const { return first >= last; }
};

// Into shared memory, or zeros.
template <int BYTES>
__device__ __forceinline__ void fetch(unsigned to, const char* from, bool is_there = true) {
  if constexpr (BYTES >= 16) {
#pragma unroll
    for (int i = 0; i < BYTES; i += 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to + i), "l"(from + i), "r"(is_there ? 16 : 0)
                   : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES), "r"(is_there ? BYTES : 0)
                 : "memory");
  }
}

// 16 bytes of what is read once in a step, or zeros: what is read in each layer shall stay in the cache.
__device__ __forceinline__ void fetch_once(unsigned to, const char* from, unsigned long long policy, bool is_there) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(from),
               "r"(is_there ? 16 : 0), "l"(policy) : "memory");
}

// 512 bytes of eight rows, by the card's copy engine; what is behind a row's end is zeros.
__device__ __forceinline__ void fetch_box(unsigned to, const long long* map, int row, int half, unsigned come,
                                          unsigned long long policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(map), "r"(0), "r"(row), "r"(half), "r"(come), "l"(policy)
      : "memory");
}

// Reads what some warps take of a matrix, step after step: in boxes, where there are maps of it.
template <int VARIANT, int SCALES, bool HAS_MAPS>
struct Reader {
  using L = Layout<1, VARIANT>;
  using N = Numbers<VARIANT, SCALES>;
  static constexpr int FETCHED = N::FETCHED;
  static constexpr bool IN_BOXES = HAS_MAPS && !L::IS_RAGGED;

  Matrix m;
  // Where the program begins.
  const long long* program;
  // Steps until which rows lie one after the other, and from which on there are none.
  int tile, at, until, left, lane;
  // Of both eight rows: their maps, the first of them and the half of a step, or where the lane's bytes of the first are.
  const long long* maps[2];
  int row[2], half;
  const char* rows[2];
  // Where the lane's scales or biases are.
  const char* numbers;
  size_t bytes;

  __device__ __forceinline__ Reader(const Matrix& m, const long long* program) : m(m), program(program) {
    lane = threadIdx.x % 32;
    bytes = (size_t)m.segment * L::BITS / 8;
  }

  // To the first of the steps that the matrix is bound to.
  __device__ __forceinline__ void begin() {
    tile = m.is_idle() ? m.end : m.mine;
    at = m.first;
    turn();
  }

  __device__ __forceinline__ bool is_done() const { return tile >= m.end; }

  // To the rows of a tile, from a step on.
  __device__ __forceinline__ void turn() {
    if (is_done()) return;
    int part = 0, other = 1, first = tile * 8, below = 0, from = at, whole = m.whole<L>();
    until = m.last;
    if (m.kind == GATE) {
      if (m.taken) first = m.experts[first / m.rows] * m.rows + first % m.rows;
    } else {
      first = tile * 16;
      below = 8;
      for (int parts = m.in.integer(10); part + 1 < parts && first >= m.in.integer(20 + 5 * part); part++)
        first -= m.in.integer(20 + 5 * part);
      other = part;
      if (m.taken) {
        int steps = m.steps<L>(), expert = at / steps;
        first += m.experts[expert] * m.rows;
        from = at % steps;
        until = min(until, (expert + 1) * steps);
      }
    }
    left = whole - from;
    row[0] = first;
    row[1] = first + below;
    if constexpr (IN_BOXES) {
      maps[0] = program + m.in.words[16 + 5 * part];
      maps[1] = program + m.in.words[16 + 5 * other];
      half = 2 * from;
    } else {
      int within = lane * 16 + from * 128;
      rows[0] = m.in.address<char>(16 + 5 * part) + row[0] * bytes + within;
      rows[1] = m.in.address<char>(16 + 5 * other) + (size_t)row[1] * bytes + within;
    }
    // Of rows, one after the other: their scales and biases in turn, or scales alone.
    if constexpr (L::AFFINE) {
      int of = lane < 16 ? part : other, of_row = (lane < 16 ? row[0] : row[1]) + lane / 2 % 8;
      numbers = m.in.address<char>(17 + lane % 2 + 5 * of) + ((size_t)of_row * whole + from) * FETCHED;
    }
    if constexpr (L::IS_FLOAT4) {
      int of = lane < 8 ? part : other, of_row = (lane < 8 ? row[0] : row[1]) + lane % 8;
      numbers = m.in.address<char>(17 + 5 * of) + of_row * (size_t)N::scales(m.segment) + from * N::OF_A_STEP -
                N::within(lane, m.segment);
    }
  }

  // Asks for a step of each warp.
  __device__ __forceinline__ void next(unsigned to, unsigned come, unsigned long long policy) {
    if constexpr (IN_BOXES) {
      if (lane == 0) {
        expect_bytes(come, TOGETHER * 2048);
        fetch_box(to, maps[0], row[0], half, come, policy);
        fetch_box(to + TOGETHER * 1024, maps[1], row[1], half, come, policy);
      }
      half += 2 * m.each;
    } else {
      // Of each row 512 bytes: of two warps' halves in turn.
      unsigned here = to + lane / 4 * 512 + lane % 4 * 16;
      int of_lane = (int)bytes - (m.whole<L>() - left) * 128 - lane * 16;
#pragma unroll
      for (int i = 0; i < 8; i++) {
        fetch_once(here + i * 64, rows[0] + i * bytes, policy, of_lane > 0);
        fetch_once(here + TOGETHER * 1024 + i * 64, rows[1] + i * bytes, policy, of_lane > 0);
      }
      rows[0] += 128 * m.each;
      rows[1] += 128 * m.each;
    }
    unsigned there = to + TOGETHER * 2048 + lane * FETCHED;
    if constexpr (L::AFFINE) {
#pragma unroll
      for (int i = 0; i < TOGETHER; i++) fetch<FETCHED>(there + i * N::BYTES, numbers + i * FETCHED, i < left);
      numbers += FETCHED * m.each;
    }
    if constexpr (L::IS_FLOAT4) {
      if (lane < 16) {
        // Bytes of the row's scales that are still to come.
        int of_row = N::scales(m.segment) - (m.whole<L>() - left) * N::OF_A_STEP + N::within(lane, m.segment);
#pragma unroll
        for (int i = 0; i < TOGETHER; i++) {
          if constexpr (L::IS_RAGGED) {
#pragma unroll
            for (int j = 0; j < FETCHED; j += 4)
              fetch<4>(there + i * N::BYTES + j, numbers + i * N::OF_A_STEP + j, i * N::OF_A_STEP + j < of_row);
          } else {
            fetch<FETCHED>(there + i * N::BYTES, numbers + i * N::OF_A_STEP, i < left);
          }
        }
      }
      numbers += N::OF_A_STEP * m.each;
    }
    at += m.each;
    left -= m.each;
    if (at >= until) {
      if (at >= m.last) {
        at = m.first;
        tile += m.groups;
      }
      turn();
    }
  }
};

// Reads a matrix to a ring.
template <int ROWS, int VARIANT, int SCALES, int SLOT, bool HAS_MAPS = true>
__device__ __forceinline__ void read(const Instruction& in, const long long* program, Shared& shared, unsigned ring,
                                     Turn<AHEAD<ROWS, SLOT>>& turn) {
  using L = Layout<ROWS, VARIANT>;
  int which = threadIdx.x / 32 - WARPS;
  unsigned come = in_shared(shared.rings.come[which]), used = in_shared(shared.rings.used[which]);
  unsigned long long policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  Matrix m(in, shared.experts, which * TOGETHER);
  Reader<VARIANT, SCALES, HAS_MAPS> reader(m, program);
  int steps = m.steps<L>() * m.segments, most = most_steps<ROWS, VARIANT, SLOT>(steps);
  for (int from = 0; from < steps; from += most) {
    reader.m.bound(from, min(from + most, steps));
    reader.begin();
    while (!reader.is_done()) {
      // At first there is room.
      wait_for(used + 8 * turn.slot, turn.side ^ 1);
      reader.next(ring + (which * AHEAD<ROWS, SLOT> + turn.slot) * SLOT, come + 8 * turn.slot, policy);
      tell_when_come(come + 8 * turn.slot);
      turn.next();
    }
  }
}

} // namespace mlxr
