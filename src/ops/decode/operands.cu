// Inputs of products of many rows.
//
// Whoever makes them writes them as tensor cores take them: in bfloat16, multiplied with the norm's weights, in the order
// in which a matrix of that format is multiplied with. To bring them to a block is then a copy. What a norm divides by
// is found from sums of squares, of 16 hidden states each.

namespace mlxr {

// Hidden states whose squares are added up by who makes them.
constexpr int SQUARES = 16;

// Words of an instruction that makes inputs: in which order, how far apart its rows are, and of hidden states where they
// are, the norm's weights and where squares are. And of one that takes inputs.
enum Making { ORDER = 26, PITCH = 28, HIDDEN = 13, NORM = 21, SQUARES_TO = 22 };
enum Taking { PITCH_OF_INPUTS = 2, SQUARES_FROM = 3 };

// Where input i of a row is. The order's lower two bits are the logarithm of a unit's pieces, see `Layout`; the third one
// tells whether pairs are four apart, as `nibbles` takes them out.
__device__ __forceinline__ int place_of(int order, int i) {
  int pieces = order & 3, in_unit = i & (32 << pieces) - 1, within = i & 7;
  if (order & 4) within = (within & 3) * 2 + (within >> 2);
  int piece = in_unit >> 3 & (1 << pieces) - 1, t = in_unit >> 3 + pieces;
  return i - in_unit + (piece * 4 + t) * 8 + within;
}

// Writes an input of a product to come, where `word` says: float32, or as above.
template <bool NARROW>
__device__ __forceinline__ void hand_over(const Instruction& in, const Step& step, int word, int row, int width, int i, float x) {
  float* to = step.scratch + in.words[word];
  if constexpr (NARROW) {
    unsigned short* there = reinterpret_cast<unsigned short*>(to) + row * in.integer(PITCH) + place_of(in.integer(ORDER), i);
    __stcg(there, (unsigned short)to_bf16(x));
  } else {
    __stcg(to + (size_t)row * width + i, x);
  }
}

// A hidden state of a row, by lanes of which 16 have neighbours.
__device__ __forceinline__ void hand_over_hidden(const Instruction& in, const Step& step, int row, int width, int i, float x) {
  const float* norm = in.address<float>(NORM);
  int lane = threadIdx.x % 32;
  hand_over<true>(in, step, HIDDEN, row, width, i, norm ? x * __ldg(norm + i) : x);
  float squares = x * x;
#pragma unroll
  for (int o = SQUARES / 2; o; o >>= 1) squares += __shfl_xor_sync(0xffffu << (lane & 16), squares, o);
  if (lane % SQUARES == 0) __stcg(step.scratch + in.words[SQUARES_TO] + (row * width + i) / SQUARES, squares);
}

// Asks for inputs `from..from + count` of all rows, by one thread.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void ask_for_inputs(const Instruction& in, const Step& step, Shared& shared, const Places<ROWS>& places, int from,
                               int count) {
  unsigned brought = in_shared(&shared.brought), to = in_shared(places.x);
  int bytes = count * 2, stride = Layout<ROWS, VARIANT>::stride(count);
  const char* source = reinterpret_cast<const char*>(step.scratch + in.words[12]) + from * 2;
  // Others have written there, and threads of this block where it goes to.
  asm volatile("fence.proxy.async;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(brought), "r"(step.rows * bytes) : "memory");
  for (int row = 0; row < step.rows; row++)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to + row * stride),
                 "l"(source + (size_t)row * in.integer(PITCH_OF_INPUTS) * 2), "r"(bytes), "r"(brought)
                 : "memory");
}

// What products are multiplied with in the end, by a warp for each row.
template <int ROWS>
__device__ __forceinline__ void find_factors(const Instruction& in, const Step& step, Shared& shared) {
  int row = threadIdx.x / 32, lane = threadIdx.x % 32, inputs = in.integer(1);
  if (row >= ROWS) return;
  float squares = 0.0f;
  bool has_norm = in.words[5] != 0;
  const float4* from = reinterpret_cast<const float4*>(step.scratch + in.words[SQUARES_FROM] + (size_t)row * inputs / SQUARES);
  for (int i = lane; has_norm && i < inputs / SQUARES / 4; i += 32) {
    float4 x = __ldcg(from + i);
    squares += x.x + x.y + x.z + x.w;
  }
  squares = sum_of_warp(squares);
  if (lane == 0) shared.factors[row] = has_norm ? rsqrtf(squares / inputs + in.number(6)) : 1.0f;
}

// Sums of inputs over the groups that share a scale, of all units that were brought: products with ones.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void add_up_groups(const Places<ROWS>& places, int count) {
  using L = Layout<ROWS, VARIANT>;
  if constexpr (L::AFFINE) {
    constexpr unsigned ONES = 0x3f803f80u;
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, stride = L::stride(count);
    for (int unit = threadIdx.x / 32; unit < count / L::SPAN; unit += WARPS) {
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++) {
        float sums[4] = {};
        const char* x = places.x + (tile * 8 + g) * stride + (unit * L::PIECES * 4 + t) * 16;
#pragma unroll
        for (int piece = 0; piece < L::PIECES; piece++) {
          uint4 b = *reinterpret_cast<const uint4*>(x + piece * 64);
          multiply_tile(sums, ONES, ONES, ONES, ONES, b.x, b.y);
          multiply_tile(sums, ONES, ONES, ONES, ONES, b.z, b.w);
        }
        if (g == 0) *reinterpret_cast<float2*>(places.inputs + (unit * L::TILES + tile) * 8 + 2 * t) = make_float2(sums[0], sums[1]);
      }
    }
  }
}

// All that is to be known of inputs that were asked for; `side` is whether for an odd time.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void take_inputs(const Instruction& in, const Step& step, Shared& shared, const Places<ROWS>& places, int count,
                            int side) {
  find_factors<ROWS>(in, step, shared);
  wait_for(in_shared(&shared.brought), side);
  add_up_groups<ROWS, VARIANT>(places, count);
  sync();
}

// The same of rows that lie as they are, bfloat16 without a norm.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void arrange_inputs(const Instruction& in, const Step& step, Shared& shared, const Places<ROWS>& places, int from,
                               int count) {
  using L = Layout<ROWS, VARIANT>;
  int inputs = in.integer(1), stride = L::stride(count);
  const char* source = reinterpret_cast<const char*>(step.scratch + in.words[12]);
  for (int i = threadIdx.x; i < ROWS * (count / 8); i += THREADS) {
    int row = i / (count / 8), piece = i % (count / 8), input = from + piece * 8;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (row < step.rows && input < inputs) x = __ldcg(reinterpret_cast<const uint4*>(source + ((size_t)row * inputs + input) * 2));
    if constexpr (L::BITS == 4)
      x = make_uint4(__byte_perm(x.x, x.z, 0x5410), __byte_perm(x.x, x.z, 0x7632), __byte_perm(x.y, x.w, 0x5410),
                     __byte_perm(x.y, x.w, 0x7632));
    int unit = piece / (L::PIECES * 4), t = piece / L::PIECES % 4;
    reinterpret_cast<uint4*>(places.x + row * stride)[(unit * L::PIECES + piece % L::PIECES) * 4 + t] = x;
  }
  find_factors<ROWS>(in, step, shared);
  sync();
  add_up_groups<ROWS, VARIANT>(places, count);
  sync();
}

} // namespace mlxr
