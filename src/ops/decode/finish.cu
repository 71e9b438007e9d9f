// What the warps of a tile have found becomes outputs.

namespace mlxr {

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
      hand_over<ROWS>(in, step, 8, row, m.rows, output, y);
    } else {
      float* to = step.scratch + in.words[8] + (size_t)row * m.rows + output;
      if (m.kind == ADD || !is_first) y += __ldcg(to);
      __stcg(to, y);
      if constexpr (IS_NARROW<ROWS>) {
        if (m.kind == ADD && is_last) hand_over_hidden<ROWS>(in, step, row, m.rows, output, y);
      }
    }
  }
}

} // namespace mlxr
