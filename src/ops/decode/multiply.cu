// y = W norm(x) for up to 16 rows of x, on tensor cores: see layout.cu.
namespace mlxr {

// Scales and biases of two groups, as they were fetched.
template <int VARIANT, int SCALES>
__device__ __forceinline__ Scaled scaled_by(const char* numbers) {
  constexpr int FETCHED = Numbers<VARIANT, SCALES>::FETCHED;
  Scaled by{numbers_of<SCALES>(numbers), numbers_of<SCALES>(numbers + FETCHED), numbers_of<SCALES>(numbers + 16 * FETCHED),
            numbers_of<SCALES>(numbers + 17 * FETCHED)};
  // Numbers of 4 bits come with 128 added.
  if constexpr (Layout<1, VARIANT>::BITS == 4) {
    auto less = [](float2& bias, float2 scale) {
      bias.x -= 128.0f * scale.x;
      bias.y -= 128.0f * scale.y;
    };
    less(by.bias, by.scale);
    less(by.bias_below, by.scale_below);
  }
  return by;
}

// Where a lane finds its column of B in shared memory.
template <int ROWS, int VARIANT>
struct Column {
  using L = Layout<ROWS, VARIANT>;
  const char* x;
  // From tile to tile of columns and from unit to unit, where rows are few; else from even to odd pieces.
  int next_tile, next_unit, to_odd;

  __device__ __forceinline__ Column(const Places<ROWS>& places, const Shared& shared, int inputs) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if constexpr (IS_NARROW<ROWS>) {
      x = places.x + g * (L::STEP * 2) + t * 16 + g % 2 * 64;
      to_odd = g % 2 ? -64 : 64;
    } else {
      int within = g % L::COLUMNS, stride = L::stride(inputs);
      x = places.x + (g / L::COLUMNS * L::PARTS + within / L::GROUPS) * stride + t * 16;
      next_tile = 8 / L::COLUMNS * L::PARTS * stride;
      next_unit = L::PIECES * 64;
      if (within >= L::PARTS * L::GROUPS || within % L::GROUPS != t * L::GROUPS / 4) {
        x = reinterpret_cast<const char*>(shared.zeros);
        next_tile = next_unit = 0;
      }
    }
  }

  // Its inputs of a unit of a step.
  __device__ __forceinline__ const char* at(int step, int unit, int tile, int piece) const {
    if constexpr (!IS_NARROW<ROWS>) return x + (step * L::UNITS + unit) * next_unit + tile * next_tile + piece * 64;
    int of_step = unit * L::PIECES + piece;
    return x + step * OF_STEP<ROWS, VARIANT> + tile * (8 * L::STEP * 2) + of_step / 2 * 128 + (of_step % 2 ? to_odd : 0);
  }
};

// A unit: adds W x of its inputs to `sums`. `weights` and `numbers` are what was fetched for it, `by` of columns 2t and
// 2t + 1; `x` tells where the lane's inputs are, of a tile of columns and a piece.
template <int ROWS, int VARIANT, int SCALES, typename X>
__device__ __forceinline__ void consume(const char* weights, const char* numbers, const Scaled& by, X x,
                                        const float2* inputs, unsigned mask, unsigned offset,
                                        float (&sums)[Layout<ROWS, VARIANT>::TILES][4]) {
  using L = Layout<ROWS, VARIANT>;
  constexpr int FETCHED = Numbers<VARIANT, SCALES>::FETCHED;
  uint4 top, bottom;
  if constexpr (L::HAS == 16) {
    top = *reinterpret_cast<const uint4*>(weights);
    bottom = *reinterpret_cast<const uint4*>(weights + TOGETHER * 1024);
  } else if constexpr (L::HAS == 8) {
    uint2 a = *reinterpret_cast<const uint2*>(weights), b = *reinterpret_cast<const uint2*>(weights + TOGETHER * 1024);
    top = make_uint4(a.x, a.y, 0, 0);
    bottom = make_uint4(b.x, b.y, 0, 0);
  } else {
    top = make_uint4(*reinterpret_cast<const unsigned*>(weights), 0, 0, 0);
    bottom = make_uint4(*reinterpret_cast<const unsigned*>(weights + TOGETHER * 1024), 0, 0, 0);
  }
  if constexpr (!L::AFFINE && !L::IS_FLOAT4) {
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++) {
      const char* here = x(tile, 0);
      if constexpr (L::FORMAT == DENSE_BF16) {
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
    // Several sums, for none to wait for the one before; not where there are several tiles of columns.
    constexpr int CHAINS = L::TILES >= 2 ? 1 : L::PIECES;
    float products[L::TILES][4], chains[CHAINS][L::TILES][4];
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++)
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) chains[chain][tile][i] = 0.0f;
    unsigned scales[2][2];
    if constexpr (L::IS_FLOAT4) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        constexpr bool IS_MX = L::FORMAT == MXFP4;
        const unsigned char* from = reinterpret_cast<const unsigned char*>(numbers) + (IS_MX ? 0 : half);
        scales[0][half] = scales_of_float4<IS_MX>(from[0]);
        scales[1][half] = scales_of_float4<IS_MX>(from[8 * FETCHED]);
      }
    }
#pragma unroll
    for (int piece = 0; piece < L::PIECES; piece++) {
      unsigned a[2][4];
      if constexpr (L::IS_FLOAT4) {
#pragma unroll
        for (int row = 0; row < 2; row++) {
          unsigned word = word_of(row ? bottom : top, piece), scale = scales[row][piece / 2];
          a[row][0] = float4_pair<0>(word, scale);
          a[row][1] = float4_pair<1>(word, scale);
          a[row][2] = float4_pair<2>(word, scale);
          a[row][3] = float4_pair<3>(word, scale);
        }
      } else if constexpr (L::BITS == 4) {
        unsigned p = word_of(top, piece), q = word_of(bottom, piece);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          a[0][i] = nibbles(p, 4 * i, mask, offset);
          a[1][i] = nibbles(q, 4 * i, mask, offset);
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
        uint4 b = *reinterpret_cast<const uint4*>(x(tile, piece));
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
    if constexpr (L::IS_FLOAT4) {
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[tile][i] += products[tile][i];
      return;
    }
#pragma unroll
    for (int tile = 0; tile < L::TILES; tile++) {
      float2 sum = inputs[tile * 4];
      auto add = [&](int i, float scale, float bias, float sum) {
        sums[tile][i] = fmaf(scale, products[tile][i], fmaf(bias, sum, sums[tile][i]));
      };
      add(0, by.scale.x, by.bias.x, sum.x);
      add(1, by.scale.y, by.bias.y, sum.y);
      add(2, by.scale_below.x, by.bias_below.x, sum.x);
      add(3, by.scale_below.y, by.bias_below.y, sum.y);
    }
  }
}

// By itself it meets no other blocks: nothing of what it works on is made meanwhile, and inputs are rows of bfloat16.
template <int ROWS, int VARIANT, int SCALES, int RANKS, int SLOT, bool MEETS = true>
__device__ __forceinline__ void multiply(const Instruction& in, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  using L = Layout<ROWS, VARIANT>;
  using N = Numbers<VARIANT, SCALES>;
  constexpr int COLUMNS = 8 * L::TILES;
  Matrix m(in, shared.experts, threadIdx.x / 32);
  int lane = threadIdx.x % 32;
  int steps = m.steps<L>() * m.segments, most = most_steps<ROWS, VARIANT, SLOT>(steps);
  Places<ROWS> places(memory + RING<ROWS, SLOT>, L::UNITS * most, COLUMNS);
  int reader = m.warp / TOGETHER, among = m.warp % TOGETHER;
  const char* ring = memory + reader * (AHEAD<ROWS, SLOT> * SLOT);
  unsigned come = in_shared(shared.rings.come[reader]);
  Turn<AHEAD<ROWS, SLOT>> turn{shared.rings.turns[m.warp] & 0xff, shared.rings.turns[m.warp] >> 8};
  int side = 0, done = 0, brought = shared.brought_sides[m.warp];
  // Sums of a warp's only tile go on from pass to pass.
  bool is_only = m.mine + m.groups >= m.end;
  float sums[L::TILES][4];
#pragma unroll
  for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
    for (int i = 0; i < 4; i++) sums[tile][i] = 0.0f;
  for (int from = 0; from < steps; from += most) {
    int count = steps - from < most ? steps - from : most;
    m.bound(from, from + count);
    // What lay in shared memory is no longer needed when all have come.
    if (from > 0) sync();
    unsigned before = MEETS && from == 0 ? arrive(step.barrier) : 0;
    if (MEETS && threadIdx.x == 0) {
      if (from == 0) wait_alone(step.barrier, before);
      if constexpr (IS_NARROW<ROWS>) ask_for_inputs<ROWS, VARIANT>(in, step, shared, places, from, count);
    }
    if (MEETS && from == 0) sync();
    if (MEETS && m.taken && from == 0) {
      // Which weights are read is known when all have come.
      route(in, step, shared);
      if (threadIdx.x == 0) tell(shared.rings.routed);
    }
    if constexpr (!IS_NARROW<ROWS>) {
      bring<ROWS, VARIANT>(in, step, shared, places, from * L::STEP, count * L::STEP);
    } else if constexpr (MEETS) {
      take_inputs<ROWS, VARIANT>(in, step, shared, places, count, brought);
      brought ^= 1;
    } else {
      arrange_inputs<ROWS, VARIANT>(in, step, shared, places, from, count);
    }

    Column<ROWS, VARIANT> column(places, shared, count * L::STEP);
    int g = lane / 4, t = lane % 4;
    // A warp without steps still has to hand in its zeros.
    int tile = m.mine, place = m.first;
    const char* weights = ring + among * 1024 + g * 64 + t * L::HAS;
    // Scales of row g, and which of them are next from unit to unit.
    const char* numbers = ring + TOGETHER * 2048 + among * N::BYTES + (L::AFFINE ? 2 : 1) * g * N::FETCHED;
    constexpr int OF_A_UNIT = L::IS_FLOAT4 ? N::OF_A_STEP / 2 : L::GROUPS * N::NUMBER;
    if constexpr (L::IS_FLOAT4) numbers += N::within(g, m.segment) + t * (N::OF_A_STEP / 8);
    else if constexpr (L::GROUPS > 1) numbers += 2 * t % L::GROUPS * N::NUMBER;
    unsigned mask, offset;
    asm volatile("mov.u32 %0, 0x000f000f; mov.u32 %1, 0x43004300;" : "=r"(mask), "=r"(offset));
    while (tile < m.end) {
      if (!m.is_idle()) {
        wait_for(come + 8 * turn.slot, turn.side);
        if (place + among < m.last) {
          int at = place + among - from, slot = turn.slot * SLOT;
          const float2* inputs = reinterpret_cast<const float2*>(places.inputs + L::UNITS * at * COLUMNS) + t;
          Scaled both{};
#pragma unroll
          for (int unit = 0; unit < L::UNITS; unit++) {
            constexpr int HALF = L::UNITS / 2;
            const char* beside = numbers + slot + unit * OF_A_UNIT;
            // Units of one group find those of two at once.
            constexpr bool IS_OF_ONE = L::GROUPS == 1;
            if (L::AFFINE && (!IS_OF_ONE || unit % 2 == 0)) both = scaled_by<VARIANT, SCALES>(beside);
            Scaled by = IS_OF_ONE ? both.twice(unit % 2) : both;
            consume<ROWS, VARIANT, SCALES>(weights + slot + unit / HALF * 512 + unit % HALF * (64 / HALF), beside, by,
                                           [&](int tile, int piece) { return column.at(at, unit, tile, piece); },
                                           inputs + unit * COLUMNS / 2, mask, offset, sums);
          }
        }
        __syncwarp();
        if (lane == 0) tell(shared.rings.used[reader][turn.slot]);
        turn.next();
        if ((place += m.each) < m.last) continue;
      }
      if (is_only && from + count < steps) break;
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
      meet(m);
      finish<ROWS, RANKS>(m, step, mail, shared, products, tile, done++, from == 0 || is_only, from + count == steps);
      if (SIDES<ROWS> == 2) side ^= 1;
      else meet(m);
      place = m.first;
      tile += m.groups;
    }
  }
  // All lanes have read it.
  __syncwarp();
  if (lane == 0) {
    shared.rings.turns[m.warp] = turn.side << 8 | turn.slot;
    shared.brought_sides[m.warp] = brought;
  }
}

} // namespace mlxr
