// Eight neighbouring numbers of a packed matrix at a time, into sixteen bytes.
using T = typename mlxr::Pointed<decltype(y)>::Type;
constexpr int EACH = 4;
#pragma unroll
for (int j = 0; j < EACH; j++) {
  const size_t at = (size_t(blockIdx.x) * EACH + j) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const size_t group = at / (GROUP / 8);
  const unsigned scale = mlxr::both<GROUP>(scales[group]), bias = mlxr::both<GROUP>(biases[group]);
  unsigned two[4];
  if constexpr (sizeof(scales[0]) == 1) {
    const unsigned word = __ldg(weight + at);
#pragma unroll
    for (int i = 0; i < 4; i++) two[i] = mlxr::of_float4(word, i, scale);
  } else if constexpr (BITS == 4) {
    const unsigned word = __ldg(weight + at);
#pragma unroll
    for (int i = 0; i < 4; i++) two[i] = mlxr::of_four_bits<T>(word, i, scale, bias);
  } else {
    const uint2 words = __ldg(reinterpret_cast<const uint2*>(weight) + at);
#pragma unroll
    for (int i = 0; i < 4; i++) two[i] = mlxr::of_eight_bits<T>(i < 2 ? words.x : words.y, i % 2, scale, bias);
  }
  reinterpret_cast<uint4*>(y)[at] = make_uint4(two[0], two[1], two[2], two[3]);
}
