// From weights as they are stored to operands of tensor cores.

namespace mlxr {

// The numbers of two groups of those of a row.
template <int SCALES>
__device__ __forceinline__ float2 numbers_of(const char* from) {
  if constexpr (SCALES == FLOAT32) return *reinterpret_cast<const float2*>(from);
  unsigned both = *reinterpret_cast<const unsigned*>(from);
  if constexpr (SCALES == BFLOAT16) return make_float2(from_bf16(both), __uint_as_float(both & 0xffff0000u));
  return make_float2(from_f16(both & 0xffffu), from_f16(both >> 16));
}

// Scales and biases of two groups, of a row of weights and of the eighth after it.
struct Scaled {
  float2 scale, bias, scale_below, bias_below;

  // Of one of both groups twice.
  __device__ __forceinline__ Scaled twice(int group) const {
    auto of = [&](float2 x) { return group ? make_float2(x.y, x.y) : make_float2(x.x, x.x); };
    return {of(scale), of(bias), of(scale_below), of(bias_below)};
  }
};

__device__ __forceinline__ void multiply_tile(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                              unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// 128 + two of the eight numbers of 4 bits. The constants are in registers, or the compiler writes them there anew
// each time.
__device__ __forceinline__ unsigned nibbles(unsigned word, int shift, unsigned mask, unsigned offset) {
  unsigned result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word >> shift), "r"(mask), "r"(offset));
  return result;
}

// Bytes `low` and `low + 1` as bfloat16, which holds them exactly: by way of float32 with 2^23 added.
__device__ __forceinline__ unsigned bytes(unsigned word, int low) {
  unsigned select = 0x7650u;
  float a = __uint_as_float(__byte_perm(word, 0x4b000000u, select | low)) - 8388608.0f;
  float b = __uint_as_float(__byte_perm(word, 0x4b000000u, select | (low + 1))) - 8388608.0f;
  return __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
}

// Two of the eight numbers of 4 bits of a word, times their scale.
template <int I>
__device__ __forceinline__ unsigned float4_pair(unsigned word, unsigned scale) {
  unsigned magnitudes = I < 2 ? word << (I < 2 ? 6 - 4 * I : 0) : word >> (I < 2 ? 0 : 4 * I - 6);
  return float4_pair(magnitudes, word << (12 - 4 * I), scale);
}

// Two float32 numbers as the sum of three pairs of bfloat16.
__device__ __forceinline__ void split(float x, float y, unsigned (&parts)[3]) {
#pragma unroll
  for (int i = 0; i < 3; i++) {
    parts[i] = to_bf16_pair(x, y);
    x -= from_bf16(parts[i]);
    y -= __uint_as_float(parts[i] & 0xffff0000u);
  }
}

} // namespace mlxr
