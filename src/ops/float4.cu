// Numbers of 4 bits, a sign, two bits of exponent and one of fraction, and what groups of them are multiplied with: a
// power of two for MXFP4 (OCP Microscaling Formats 1.0, sections 5.3.3 and 5.4.1), a number with four bits of exponent
// and three of fraction for NVFP4. Both are exact in bfloat16, and so are their products.

namespace mlxr {

__device__ __forceinline__ float from_float4(unsigned bits) {
  return __uint_as_float((bits & 7) << 22 | (bits & 8) << 28) * 0x1p126f;
}

__device__ __forceinline__ float scale_of_float4(bool is_mx, unsigned bits) {
  if (is_mx) return __uint_as_float(bits ? bits << 23 : 1u << 22);
  return __uint_as_float((bits & 0x7f) << 20 | (bits & 0x80) << 24) * 0x1p120f;
}

// Both numbers of a pair of bfloat16 by those of another.
__device__ __forceinline__ unsigned times(unsigned pair, unsigned by) {
  unsigned result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(pair), "r"(by), "r"(0x80008000u));
  return result;
}

// The same scale twice.
template <bool IS_MX>
__device__ __forceinline__ unsigned scales_of_float4(unsigned bits) {
  if constexpr (IS_MX) return (bits ? bits << 7 : 1u << 6) * 0x10001u;
  return times(((bits & 0x7f) << 4 | (bits & 0x80) << 8) * 0x10001u, 0x7b807b80u);
}

// Two numbers whose three bits of exponent and fraction are those of bfloat16, and whose signs are in `signs`, times
// their scale: as they are they are 2^126 times too small.
__device__ __forceinline__ unsigned float4_pair(unsigned magnitudes, unsigned signs, unsigned scale) {
  return times(times((magnitudes & 0x01c001c0u) | (signs & 0x80008000u), 0x7e807e80u), scale);
}

} // namespace mlxr
