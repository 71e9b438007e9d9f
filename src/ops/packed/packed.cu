// y = x Wᵀ for many rows of x and a W that is packed in groups, on tensor cores. Each row may have a matrix of its own
// out of a stack; rows come in the order of their matrices.
//
// A block takes 64 rows and 128 outputs, each of its warps 32 of them, and goes through the inputs by 128. W goes from
// memory to registers as it is stored: lane 4g + t has the inputs from 32 t on of row g (and of g + 8, g + 16, g + 24),
// which become the B operand of m16n8k16, eight for two products. Which input is which k does not matter as long as x,
// the A operand, is read alike: 16 bytes of a row are what a lane needs for both.

namespace mlxr {

// The last 128 may be as few as 32.

constexpr int ROWS = 64, OUTPUTS = 128, INPUTS = 128, THREADS = 128, STAGES = 3;

// What differs between both types of two bytes, two of which are in a word, the first in its low half: numbers of four
// bits are put into the fraction of a power of two.
template <typename T> struct Number;

template <> struct Number<Bfloat16> {
  static constexpr unsigned POWER = 0x43004300u, ONE = 0x3f803f80u;
  __device__ static unsigned two(float x, float y) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(y), "f"(x));
    return both;
  }
  __device__ static unsigned multiply_add(unsigned x, unsigned y, unsigned z) {
    unsigned sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(y), "r"(z));
    return sum;
  }
  __device__ static void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

template <> struct Number<Float16> {
  static constexpr unsigned POWER = 0x64006400u, ONE = 0x3c003c00u;
  __device__ static unsigned two(float x, float y) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(y), "f"(x));
    return both;
  }
  __device__ static unsigned multiply_add(unsigned x, unsigned y, unsigned z) {
    unsigned sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(y), "r"(z));
    return sum;
  }
  __device__ static void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// What a group is scaled with, twice: a number of two bytes, or that of numbers of MXFP4 or NVFP4.
template <int GROUP, typename T>
__device__ __forceinline__ unsigned both(T x) {
  return x.bits | (unsigned)x.bits << 16;
}
template <int GROUP>
__device__ __forceinline__ unsigned both(unsigned char x) {
  return scales_of_float4<GROUP == 32>(x);
}

// Two neighbours of the eight of a word of 4 bits each, unpacked.
template <typename T>
__device__ __forceinline__ unsigned of_four_bits(unsigned word, int pair, unsigned scale, unsigned bias) {
  unsigned byte = __byte_perm(word, 0, 0x4040 | pair << 8 | pair);
  unsigned bits = (byte & 0x0000000fu) | (byte >> 4 & 0x000f0000u) | Number<T>::POWER;
  constexpr unsigned SIGNS = 0x80008000u;
  unsigned numbers = Number<T>::multiply_add(bits, Number<T>::ONE, Number<T>::POWER ^ SIGNS);
  return Number<T>::multiply_add(numbers, scale, bias);
}

// The same as numbers of MXFP4 or NVFP4.
__device__ __forceinline__ unsigned of_float4(unsigned word, int pair, unsigned scale) {
  unsigned byte = __byte_perm(word, 0, 0x4040 | pair << 8 | pair);
  // The second number four bits on.
  unsigned apart = (byte & 0x0000000fu) | (byte >> 4 & 0x000f0000u);
  return float4_pair(apart << 6, apart << 12, scale);
}

// Two neighbours of the four of a word of 8 bits each: by way of float32 with 2^23 added.
template <typename T>
__device__ __forceinline__ unsigned of_eight_bits(unsigned word, int pair, unsigned scale, unsigned bias) {
  float x = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7650 | 2 * pair)) - 8388608.0f;
  float y = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7650 | (2 * pair + 1))) - 8388608.0f;
  return Number<T>::multiply_add(Number<T>::two(x, y), scale, bias);
}

// Where the sixteen bytes from input 8 * piece on of a row lie: lanes that read at once are on banks of their own.
__device__ __forceinline__ int place_of(int row, int piece) {
  return row * (INPUTS / 8) + (piece ^ piece >> 3 ^ (row & 1) << 1);
}

} // namespace mlxr
