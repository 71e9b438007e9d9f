// How a product of a matrix and up to 16 rows of x is laid out on warps and tensor cores.
//
// A tile is 16 rows of W (or 8 rows of each of two matrices, for a gate). Some warps share a tile along the inputs.
// A step of a warp is 128 bytes of each of its 16 rows, in two halves: of each, lane 4g + t has 16 bytes of row g and
// 16 of row g + 8, whose weights become the A operand of m16n8k16 as they are: which input is which k does not matter
// as long as x, the B operand, lies alike in shared memory.
//
// B has eight columns (or more, in several products), more than there are rows of x. The others serve exactness and
// scales: x is the sum of up to three bfloat16 numbers, each in a column of its own, and where half a step spans several
// groups of a packed matrix each group has a column which is zero at the other groups' inputs. Weights of MXFP4 and NVFP4
// are exact in bfloat16 together with their scales, and need none of this.

namespace mlxr {

template <int ROWS, int VARIANT>
struct Layout {
  static constexpr int FORMAT = VARIANT % RAGGED;
  // Whether the last step of a row ends after it.
  static constexpr bool IS_RAGGED = VARIANT >= RAGGED;
  static constexpr bool AFFINE = FORMAT >= AFFINE4_32 && FORMAT <= AFFINE8_64;
  static constexpr bool IS_FLOAT4 = FORMAT == MXFP4 || FORMAT == NVFP4;
  static constexpr int BITS = FORMAT == DENSE_BF16 ? 16 : FORMAT == DENSE_F32 ? 32 : FORMAT == AFFINE8_32 || FORMAT == AFFINE8_64 ? 8 : 4;
  // Groups in half a step that are scaled after their products.
  static constexpr int IN_HALF = FORMAT == AFFINE4_32 ? 4 : FORMAT == AFFINE4_64 || FORMAT == AFFINE8_32 ? 2 : 1;
  // With many rows columns are dear: then a step is computed in units of one group, of which lane 4g + t has fewer bytes.
  static constexpr int UNITS = ROWS >= 8 ? 2 * IN_HALF : 2;
  // Inputs of a unit, and the groups they are in.
  static constexpr int SPAN = 1024 / BITS / UNITS;
  static constexpr int GROUPS = 2 * IN_HALF / UNITS;
  // Bytes that a lane has of a row.
  static constexpr int HAS = 32 / UNITS;
  // Columns that belong to a row of x.
  static constexpr int LEAST = ROWS >= 8 ? 1 : 8 / ROWS;
  static constexpr int COLUMNS = LEAST > GROUPS ? LEAST : GROUPS;
  // Parts that x is split into: two hold 16 bits, three all of float32.
  static constexpr int WANTED = BITS == 32 ? 3 : 2;
  static constexpr int PARTS = COLUMNS / GROUPS > WANTED ? WANTED : COLUMNS / GROUPS;
  static constexpr int TILES = ROWS * COLUMNS / 8;
  static constexpr int STEP = UNITS * SPAN;
  // Times that a lane reads 16 bytes of x in a unit: eight inputs each, or four of float32.
  static constexpr int PIECES = BITS == 32 ? 1 : HAS / BITS;
  // Between parts of x in bytes, where rows are few; the last 64 keep lanes on different banks.
  __device__ static int stride(int inputs) { return inputs * (BITS == 32 ? 4 : 2) + 64; }
};

// Steps that are on their way while one is computed: with more of them memory is slower.
template <int ROWS, int SLOT>
constexpr int AHEAD = ROWS == 16 ? 2 : ROWS == 8 || SLOT > 2304 * TOGETHER ? 3 : 4;
constexpr int MOST_AHEAD = 4;
// Bytes of shared memory beside what has a name.
constexpr int MEMORY = 223 * 1024;
// Bytes of all rings.
template <int ROWS, int SLOT>
constexpr int RING = READERS * AHEAD<ROWS, SLOT> * SLOT;
// Where the products of a tile are handed in, while those of the last are still read.
template <int ROWS>
constexpr int SIDES = ROWS == 16 ? 1 : 2;

// With many rows an operand is one bfloat16 number of each input, and is written so by who makes it: each block reads all
// of it, which takes long. See operands.cu.
template <int ROWS>
constexpr bool IS_NARROW = ROWS >= 8;

// What rows of weights have beside them, in a step.
template <int VARIANT, int SCALES>
struct Numbers {
  using L = Layout<1, VARIANT>;
  static constexpr int NUMBER = SCALES == FLOAT32 ? 4 : 2;
  // Bytes of scales of MXFP4 or NVFP4.
  static constexpr int OF_A_STEP = L::FORMAT == MXFP4 ? 8 : 16;
  // Bytes of a row's scales, and of its biases. Those of ragged rows of MXFP4 begin within a word.
  static constexpr int FETCHED = L::AFFINE ? 2 * L::IN_HALF * NUMBER : L::FORMAT == NVFP4 ? 16 : L::FORMAT != MXFP4 ? 0 : L::IS_RAGGED ? 12 : 8;
  // Of all rows.
  static constexpr int BYTES = (L::AFFINE ? 32 : 16) * FETCHED;
  // A step of some warps in shared memory. Of eight rows, for warp after warp, 64 bytes of each row and 64 bytes more; the
  // same of the other eight; then for each warp its rows' scales and biases.
  static constexpr int SLOT = TOGETHER * (2048 + (BYTES + 127) / 128 * 128);

  // Bytes of scales of MXFP4 or NVFP4 of a row, and before those of a row in the word where they begin (rows of even
  // numbers begin with one, and all have two at least).
  __device__ static __forceinline__ int scales(int inputs) { return inputs / (256 / OF_A_STEP); }
  __device__ static __forceinline__ int within(int row, int inputs) {
    return L::FORMAT == MXFP4 && L::IS_RAGGED && row % 2 ? scales(inputs) % 4 : 0;
  }
};

// Bytes of a step of whatever matrix there is.
template <int VARIANTS, int SCALES, int VARIANT = 0>
__device__ constexpr int slot_of() {
  if constexpr (VARIANT == RAGGED + FORMATS) {
    return TOGETHER * 2048;
  } else {
    constexpr int others = slot_of<VARIANTS, SCALES, VARIANT + 1>();
    if constexpr (VARIANT % RAGGED >= FORMATS || (VARIANTS >> VARIANT & 1) == 0) return others;
    else return Numbers<VARIANT, SCALES>::SLOT > others ? Numbers<VARIANT, SCALES>::SLOT : others;
  }
}

// Steps whose inputs are in shared memory at once. If not all have room there, then so many that none of eight warps is
// without one.
template <int ROWS, int VARIANT, int SLOT>
__device__ __forceinline__ int most_steps(int steps) {
  using L = Layout<ROWS, VARIANT>;
  constexpr int PRODUCTS = SIDES<ROWS> * WARPS * ROWS * 16 * 4, GAPS = IS_NARROW<ROWS> ? 0 : ROWS * L::PARTS * 64;
  constexpr int LEFT = MEMORY - RING<ROWS, SLOT> - PRODUCTS - GAPS;
  constexpr int OF_STEP = L::UNITS * 8 * L::TILES * 4 + ROWS * L::PARTS * L::STEP * (L::BITS == 32 ? 4 : 2);
  constexpr int ROOM = LEFT / OF_STEP;
  return steps <= ROOM || ROOM < 8 ? min(steps, ROOM) : ROOM - ROOM % 8;
}

// Of each warp that reads, by slots of its ring.
struct Rings {
  // What was asked for has come.
  unsigned long long come[READERS][MOST_AHEAD];
  // All that compute with it have done so.
  unsigned long long used[READERS][MOST_AHEAD];
  // It is known which experts are taken.
  unsigned long long routed;
  // For each warp that computes, the slot that comes next, with a bit on top that changes from round to round.
  int turns[WARPS];
};

struct Shared {
  long long code[2][WORDS];
  // Of the warps that read, which are further on.
  long long ahead[READERS][WORDS];
  Rings rings;
  // Inputs that were asked for have come; and for each warp, whether the next ones are for an odd time.
  unsigned long long brought;
  int brought_sides[WARPS];
  float sums[WARPS];
  float factors[16];
  // That the token takes, and what their outputs are multiplied by.
  int experts[MAX_TAKEN];
  float shares[MAX_TAKEN];
  uint4 zeros[16];
};

} // namespace mlxr
