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
  // Between parts of x in bytes; the last 64 keep lanes on different banks.
  __device__ static int stride(int inputs) { return inputs * (BITS == 32 ? 4 : 2) + 64; }
};

// Steps that are on their way while one is computed (with more of them memory is slower), and what there is room for
// in shared memory beside them.
template <int ROWS>
constexpr int AHEAD = ROWS == 16 ? 2 : 3;
template <int ROWS>
constexpr int ROOM = (ROWS == 16 ? 132 : 80) * 1024;
// Where the products of a tile are handed in, while those of the last are still read.
template <int ROWS>
constexpr int SIDES = ROWS == 16 ? 1 : 2;

// With many rows an operand is one bfloat16 number of each input, and what products take is written so as well: each
// block reads all of it, which takes long.
template <int ROWS>
constexpr bool IS_NARROW = ROWS >= 8;

struct Shared {
  long long code[2][WORDS];
  float sums[WARPS];
  float factors[16];
  // That the token takes, and what their outputs are multiplied by.
  int experts[MAX_TAKEN];
  float shares[MAX_TAKEN];
  uint4 zeros[16];
};

} // namespace mlxr
