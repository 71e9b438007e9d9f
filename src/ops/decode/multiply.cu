// y = W norm(x) for up to 16 rows of x, on tensor cores: see layout.cu.
namespace mlxr {

// A unit: adds W x of its inputs to `sums`. `weights` and `numbers` are what was fetched for it, `x` points to the
// lane's column of the first tile of columns.
template <int ROWS, int VARIANT, int SCALES>
__device__ __forceinline__ void consume(const char* weights, const char* numbers, const char* x, int columns,
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
      const char* here = x + tile * columns;
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
    // Several sums, for none to wait for the one before.
    constexpr int CHAINS = L::TILES >= 4 ? 1 : L::TILES == 2 ? 2 : L::PIECES;
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
    if constexpr (L::IS_FLOAT4) {
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[tile][i] += products[tile][i];
      return;
    }
    // Numbers of 4 bits came with 128 added.
    constexpr float OFFSET = L::BITS == 4 ? 128.0f : 0.0f;
    float2 s = numbers_of<SCALES, L::GROUPS>(numbers), b = numbers_of<SCALES, L::GROUPS>(numbers + FETCHED);
    float2 u = numbers_of<SCALES, L::GROUPS>(numbers + 16 * FETCHED);
    float2 v = numbers_of<SCALES, L::GROUPS>(numbers + 17 * FETCHED);
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

__device__ __forceinline__ float activate(int activation, float x) {
  if (activation == 0) return x / (1.0f + __expf(-x));
  if (activation == 2) return x / (1.0f + __expf(-1.702f * x));
  return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

// The warps of a tile.
__device__ __forceinline__ void meet(const Matrix& m) {
  if (m.each == 1) __syncwarp();
  else asm volatile("bar.sync %0, %1;" ::"r"(1 + m.warp / m.each), "r"(m.each * 32) : "memory");
}

// What the warps of a tile have found becomes outputs.
template <int ROWS, int RANKS>
__device__ __forceinline__ void finish(const Matrix& m, const Step& step, const Mail& mail, const Shared& shared,
                                       const float* products, int tile, int turn, bool is_first, bool is_last) {
  // Another warp each time.
  int thread = (m.share + turn & m.each - 1) * 32 + threadIdx.x % 32;
  const Instruction& in = m.in;
  int shift = m.kind == GATE ? 3 : 4, outputs = 1 << shift;
  for (int i = thread; i < outputs * ROWS; i += m.each * 32) {
    int row = i >> shift, place = i & outputs - 1;
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
    if (m.taken && m.kind == GATE) in_part = m.experts[output / m.rows] * m.rows + output % m.rows;
    if (m.taken && m.kind != GATE) {
      for (int i = 0; bias && is_first && i < m.taken; i++)
        y += shared.shares[i] * __ldg(bias + (size_t)m.experts[i] * m.rows + output);
    } else if (bias && is_first) {
      y += __ldg(bias + in_part);
    }
    if (m.kind == GATE) {
      float up = total(place + 8);
      const float* bias = in.address<float>(24);
      if (bias) up += __ldg(bias + in_part);
      // That of gpt-oss, whose inputs are cut.
      float limit = in.number(13);
      if (limit != 0.0f) {
        y = y > limit ? limit : y;
        up = (up > limit ? limit : up < -limit ? -limit : up) + 1.0f;
      }
      y = activate(in.integer(9), y) * up;
    }
    if (m.kind == LOGITS) {
      float cap = in.number(13);
      if (cap != 0.0f) y = cap * tanhf(y / cap);
      step.logits[(size_t)row * m.rows + output] = y;
    } else if (RANKS > 1 && m.kind == SHARE) {
      size_t at = place_in_mail(in.words[8], mail.rank, row, m.rows) + output;
      send<RANKS>(mail, at, y, in.integer(9), is_first, is_last);
    } else if (m.kind == GATE) {
      hand_over<IS_NARROW<ROWS>>(step.scratch + in.words[8], (size_t)row * m.rows + output, y);
    } else {
      float* to = step.scratch + in.words[8] + (size_t)row * m.rows + output;
      if (m.kind == ADD || !is_first) y += __ldcg(to);
      __stcg(to, y);
      if constexpr (IS_NARROW<ROWS>) {
        if (m.kind == ADD) hand_over<true>(step.scratch + in.words[13], (size_t)row * m.rows + output, y);
      }
    }
  }
}

// By itself it meets no other blocks: nothing of what it works on is made meanwhile.
template <int ROWS, int VARIANT, int SCALES, int RANKS, int SLOT, bool MEETS = true>
__device__ __forceinline__ void multiply(const Instruction& in, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  using L = Layout<ROWS, VARIANT>;
  using N = Numbers<VARIANT, SCALES>;
  constexpr int COLUMNS = 8 * L::TILES;
  Matrix m(in, shared.experts, threadIdx.x / 32);
  int lane = threadIdx.x % 32;
  int steps = m.steps<L>() * m.segments, most = most_steps<ROWS, VARIANT>(steps);
  Places<ROWS> places(memory + RING<ROWS, SLOT>, L::UNITS * most, COLUMNS);
  int reader = m.warp / TOGETHER, among = m.warp % TOGETHER;
  const char* ring = memory + reader * (AHEAD<ROWS, SLOT> * SLOT);
  unsigned come = in_shared(shared.rings.come[reader]);
  Turn<AHEAD<ROWS, SLOT>> turn{shared.rings.turns[m.warp] & 0xff, shared.rings.turns[m.warp] >> 8};
  int side = 0, done = 0;
  for (int from = 0; from < steps; from += most) {
    int count = steps - from < most ? steps - from : most;
    m.bound(from, from + count);
    // What lay in shared memory is no longer needed when all have come.
    if (from > 0) sync();
    else if (MEETS) wait(step.barrier, arrive(step.barrier));
    if (MEETS && m.taken && from == 0) {
      // Which weights are read is known when all have come.
      route(in, step, shared);
      if (threadIdx.x == 0) tell(shared.rings.routed);
    }
    bring<ROWS, VARIANT>(in, step, shared, places, from * L::STEP, count * L::STEP);

    // The lane's column of B.
    int g = lane / 4, t = lane % 4;
    int within = g % L::COLUMNS;
    bool is_zero = within >= L::PARTS * L::GROUPS || within % L::GROUPS != t * L::GROUPS / 4;
    int stride = L::stride(count * L::STEP);
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
          int at = L::UNITS * (place + among - from), slot = turn.slot * SLOT;
          const float2* inputs = reinterpret_cast<const float2*>(places.inputs + at * COLUMNS) + t;
#pragma unroll
          for (int unit = 0; unit < L::UNITS; unit++) {
            constexpr int HALF = L::UNITS / 2;
            consume<ROWS, VARIANT, SCALES>(weights + slot + unit / HALF * 512 + unit % HALF * (64 / HALF),
                                           numbers + slot + unit * OF_A_UNIT, x + (at + unit) * next_step,
                                           next_tile, inputs + unit * COLUMNS / 2, mask, offset, sums);
          }
        }
        __syncwarp();
        if (lane == 0) tell(shared.rings.used[reader][turn.slot]);
        turn.next();
        if ((place += m.each) < m.last) continue;
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
      meet(m);
      finish<ROWS, RANKS>(m, step, mail, shared, products, tile, done++, from == 0, from + count == steps);
      if (SIDES<ROWS> == 2) side ^= 1;
      else meet(m);
      place = m.first;
      tile += m.groups;
    }
  }
  // All lanes have read it.
  __syncwarp();
  if (lane == 0) shared.rings.turns[m.warp] = turn.side << 8 | turn.slot;
}

} // namespace mlxr
