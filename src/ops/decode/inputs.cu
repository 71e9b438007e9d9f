// From x in scratch memory to operands of tensor cores in shared memory, where rows are few: x is in float32.

namespace mlxr {

// Where things lie in the shared memory that follows `Shared`.
template <int ROWS>
struct Places {
  float* products;  // [SIDES][WARPS][ROWS][16]
  float* inputs;    // [units][8 * TILES]: sums of the inputs of a column
  char* x;          // [ROWS][PARTS][inputs], or as `place_of` tells
  __device__ Places(char* memory, int steps, int columns) {
    products = reinterpret_cast<float*>(memory);
    inputs = products + SIDES<ROWS> * WARPS * ROWS * 16;
    x = reinterpret_cast<char*>(inputs + steps * columns);
  }
};

// Neighbours.
struct Eight {
  uint4 bits[2];
};

// They may come from another block, of which this one's own cache knows nothing.
__device__ __forceinline__ Eight eight_inputs(const float* from, bool is_there) {
  const uint4* at = reinterpret_cast<const uint4*>(from);
  uint4 zeros = make_uint4(0, 0, 0, 0);
  return {{is_there ? __ldcg(at) : zeros, is_there ? __ldcg(at + 1) : zeros}};
}

__device__ __forceinline__ void as_floats(const Eight& from, float (&x)[8]) {
#pragma unroll
  for (int j = 0; j < 8; j++) x[j] = __uint_as_float(word_of(from.bits[j / 4], j % 4));
}

// Brings inputs `from..from + count` of x to shared memory, split into parts, and their sums over groups.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void bring(const Instruction& in, const Step& step, Shared& shared, const Places<ROWS>& places, int from,
                      int count) {
  using L = Layout<ROWS, VARIANT>;
  constexpr int EACH = WARPS / ROWS;
  constexpr int COLUMNS = 8 * L::TILES;
  constexpr int LANES = L::SPAN / L::GROUPS / 8 > 0 ? L::SPAN / L::GROUPS / 8 : 1;
  // Inputs of a unit that a lane has.
  constexpr int OF_LANE = L::HAS * 8 / L::BITS;
  int inputs = in.integer(1);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int row = warp / EACH;
  const float* source = step.scratch + in.words[4] + (size_t)row * inputs;
  const float* norm = in.address<float>(5);
  // Of experts' outputs, which are inputs here; where rows are ragged, each expert's end with zeros.
  int segments = in.integer(31) && in.integer(7) != GATE ? in.integer(31) : 0;
  int segment = segments ? inputs / segments : inputs;
  constexpr int OF_ALL = TOGETHER * L::STEP;
  int padded = segments > 1 ? (segment + OF_ALL - 1) / OF_ALL * OF_ALL
               : L::IS_RAGGED ? (segment + L::STEP - 1) / L::STEP * L::STEP
                              : segment;
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
    if (segments && is_there) {
      float share = shared.shares[(from + piece * 8) / padded];
#pragma unroll
      for (int i = 0; i < 8; i++) x[i] *= share;
    }
    int at = piece * 8 / L::SPAN, within = piece * 8 % L::SPAN;
    float zero_sum = 0.0f;
#pragma unroll
    for (int part = 0; part < L::PARTS; part++) {
      // Pairs of neighbours, or four apart as `nibbles` takes them out.
      constexpr int APART = L::BITS == 4 ? 4 : 1;
      unsigned pairs[4];
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int a = L::BITS == 4 ? i : 2 * i, b = a + APART;
        pairs[i] = to_bf16_pair(x[a], x[b]);
        float low = from_bf16(pairs[i]), high = __uint_as_float(pairs[i] & 0xffff0000u);
        x[a] -= low;
        x[b] -= high;
        sum += low + high;
      }
      if (is_there) {
        uint4* to = reinterpret_cast<uint4*>(places.x + (row * L::PARTS + part) * stride);
        int t = within / OF_LANE;
        if constexpr (L::BITS == 32) {
          // 16 bytes a lane as elsewhere, half of them unused.
          to[at * 4 + t] = make_uint4(pairs[0], pairs[1], 0, 0);
          to[at * 4 + t + 1] = make_uint4(pairs[2], pairs[3], 0, 0);
        } else {
          to[(at * L::PIECES + within % OF_LANE / 8) * 4 + t] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
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
  // Which input a piece begins with, if it is there.
  auto is_found = [&](int piece, int& input) {
    bool is_there = piece < count / 8 && row < step.rows;
    input = from + piece * 8;
    if (L::IS_RAGGED || segments > 1) {
      int expert = segments ? input / padded : 0;
      input -= expert * padded;
      is_there = is_there && input < segment;
      input += expert * segment;
    }
    return is_there;
  };
  auto weigh = [&](int input, bool is_there, float (&weights)[8]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float4 four = make_float4(0, 0, 0, 0);
      if (is_there && norm) four = __ldg(reinterpret_cast<const float4*>(norm + input) + half);
      weights[4 * half] = four.x, weights[4 * half + 1] = four.y;
      weights[4 * half + 2] = four.z, weights[4 * half + 3] = four.w;
    }
  };
  int begin = warp % EACH * 32;
  // There are few pieces: the next one comes while one is placed, and there is less code to be read.
  int input;
  auto find = [&](int piece) {
    bool is_there = is_found(piece, input);
    auto found = eight_inputs(source + input, is_there);
    if (!is_there) input = -1;
    return found;
  };
  auto found = find(begin + lane);
#pragma unroll 1
  for (int base = begin; base < count / 8; base += EACH * 32) {
    float x[8], weights[8];
    weigh(input, input >= 0, weights);
    as_floats(found, x);
    found = find(base + EACH * 32 + lane);
    place(base + lane, x, weights);
  }
  squares = sum_of_warp(squares);
  if (lane == 0) shared.sums[warp] = squares;
  sync();
  // Each warp for itself: all write the same.
  float sum = lane < WARPS ? shared.sums[lane] : 0.0f;
#pragma unroll
  for (int o = EACH / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane < WARPS && lane % EACH == 0) shared.factors[lane / EACH] = norm ? rsqrtf(sum / inputs + in.number(6)) : 1.0f;
  __syncwarp();
}

} // namespace mlxr
