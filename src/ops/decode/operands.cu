// Inputs of products of many rows.
//
// Whoever makes them writes them as tensor cores take them: in bfloat16, multiplied with the norm's weights, in the order
// in which a matrix of that format is multiplied with. To bring them to a block is then a copy. What a norm divides by
// is found from sums of squares, of 16 hidden states each.

namespace mlxr {

// Hidden states whose squares are added up by who makes them.
constexpr int SQUARES = 16;

// Words of an instruction that makes inputs: in which order, and of hidden states where they are, the norm's weights and
// where squares are. And of one that takes inputs.
enum Making { HIDDEN = 13, NORM = 21, SQUARES_TO = 22, ORDER = 26 };
enum Taking { SQUARES_FROM = 3 };

// Where input i of a row is: step after step, and in a step row after row. Of a step's halves of 128 bytes, those of odd rows
// change places: what lanes read at one time lies on different banks. The order says how many inputs a step has and how
// many pieces a unit, as logarithms, and whether pairs are four apart, as `nibbles` takes them out. See `Layout`.
template <int ROWS>
__device__ __forceinline__ int place_of(int order, int row, int i) {
  int steps = order >> 3, pieces = order & 3, within = i & 7;
  if (order & 4) within = (within & 3) * 2 + (within >> 2);
  int in_unit = i & (32 << pieces) - 1, piece = in_unit >> 3 & (1 << pieces) - 1, t = in_unit >> 3 + pieces;
  int in_step = (i & (1 << steps) - 1) - in_unit + (piece * 4 + t) * 8 + within;
  return ((i >> steps) * ROWS + row << steps) + (in_step ^ (row & 1) * 32);
}

// Writes an input of a product to come, where `word` says: float32, or as above.
template <int ROWS>
__device__ __forceinline__ void hand_over(const Instruction& in, const Step& step, int word, int row, int width, int i,
                                          float x) {
  float* to = step.scratch + in.words[word];
  if constexpr (IS_NARROW<ROWS>)
    __stcg(reinterpret_cast<unsigned short*>(to) + place_of<ROWS>(in.integer(ORDER), row, i), (unsigned short)to_bf16(x));
  else
    __stcg(to + (size_t)row * width + i, x);
}

// A hidden state of a row, by lanes of which 16 have neighbours.
template <int ROWS>
__device__ __forceinline__ void hand_over_hidden(const Instruction& in, const Step& step, int row, int width, int i,
                                                 float x) {
  const float* norm = in.address<float>(NORM);
  int lane = threadIdx.x % 32;
  hand_over<ROWS>(in, step, HIDDEN, row, width, i, norm ? x * __ldg(norm + i) : x);
  float squares = x * x;
#pragma unroll
  for (int o = SQUARES / 2; o; o >>= 1) squares += __shfl_xor_sync(0xffffu << (lane & 16), squares, o);
  if (lane % SQUARES == 0) __stcg(step.scratch + in.words[SQUARES_TO] + (row * width + i) / SQUARES, squares);
}

// Bytes of a step's inputs, of all rows.
template <int ROWS, int VARIANT>
constexpr int OF_STEP = ROWS * Layout<ROWS, VARIANT>::STEP * 2;

// Asks for the inputs of steps `from..from + count`, by one thread, in one copy: a copy takes a while, however short it is.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void ask_for_inputs(const Instruction& in, const Step& step, Shared& shared,
                                               const Places<ROWS>& places, int from, int count) {
  constexpr int EACH = OF_STEP<ROWS, VARIANT>;
  unsigned brought = in_shared(&shared.brought), bytes = count * EACH;
  const char* source = reinterpret_cast<const char*>(step.scratch + in.words[12]) + (size_t)from * EACH;
  // Others have written there, and threads of this block where it goes to.
  asm volatile("fence.proxy.async;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(brought), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               ::"r"(in_shared(places.x)), "l"(source), "r"(bytes), "r"(brought)
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
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int unit = threadIdx.x / 32; unit < count * L::UNITS; unit += WARPS) {
#pragma unroll
      for (int tile = 0; tile < L::TILES; tile++) {
        float sums[4] = {};
        const char* x = places.x + unit / L::UNITS * OF_STEP<ROWS, VARIANT> + (tile * 8 + g) * (L::STEP * 2) + t * 16;
#pragma unroll
        for (int piece = 0; piece < L::PIECES; piece++) {
          int there = (unit % L::UNITS * L::PIECES + piece) * 64 ^ (g & 1) * 64;
          uint4 b = *reinterpret_cast<const uint4*>(x + there);
          multiply_tile(sums, ONES, ONES, ONES, ONES, b.x, b.y);
          multiply_tile(sums, ONES, ONES, ONES, ONES, b.z, b.w);
        }
        float2* to = reinterpret_cast<float2*>(places.inputs + (unit * L::TILES + tile) * 8) + t;
        if (g == 0) *to = make_float2(sums[0], sums[1]);
      }
    }
  }
}

// All that is to be known of inputs that were asked for; `side` is whether for an odd time.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void take_inputs(const Instruction& in, const Step& step, Shared& shared,
                                            const Places<ROWS>& places, int count, int side) {
  find_factors<ROWS>(in, step, shared);
  wait_for(in_shared(&shared.brought), side);
  add_up_groups<ROWS, VARIANT>(places, count);
  sync();
}

// The same of rows that lie as they are, bfloat16 without a norm.
template <int ROWS, int VARIANT>
__device__ __forceinline__ void arrange_inputs(const Instruction& in, const Step& step, Shared& shared,
                                               const Places<ROWS>& places, int from, int count) {
  using L = Layout<ROWS, VARIANT>;
  int inputs = in.integer(1);
  const char* source = reinterpret_cast<const char*>(step.scratch + in.words[12]);
  constexpr int EACH = L::STEP / 8;
  for (int i = threadIdx.x; i < ROWS * EACH * count; i += THREADS) {
    int row = i / EACH % ROWS, piece = i % EACH, of_step = i / EACH / ROWS;
    int input = (from + of_step) * L::STEP + piece * 8;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (row < step.rows && input < inputs)
      x = __ldcg(reinterpret_cast<const uint4*>(source + ((size_t)row * inputs + input) * 2));
    if constexpr (L::BITS == 4)
      x = make_uint4(__byte_perm(x.x, x.z, 0x5410), __byte_perm(x.x, x.z, 0x7632), __byte_perm(x.y, x.w, 0x5410),
                     __byte_perm(x.y, x.w, 0x7632));
    int unit = piece / (L::PIECES * 4), t = piece / L::PIECES % 4;
    int there = ((unit * L::PIECES + piece % L::PIECES) * 4 + t) * 16 ^ (row & 1) * 64;
    *reinterpret_cast<uint4*>(places.x + (of_step * ROWS + row) * (L::STEP * 2) + there) = x;
  }
  find_factors<ROWS>(in, step, shared);
  sync();
  add_up_groups<ROWS, VARIANT>(places, count);
  sync();
}

} // namespace mlxr
