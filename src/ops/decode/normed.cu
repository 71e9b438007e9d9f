// What a layer made, normalized, to the residual stream (Gemma).

namespace mlxr {

template <int ROWS>
__device__ __forceinline__ void add_normed(const Instruction& in, const Step& step, Shared& shared) {
  int width = in.integer(1), row = blockIdx.x % step.rows, part = blockIdx.x / step.rows, parts = gridDim.x / step.rows;
  if (part >= parts) return;
  const float* from = step.scratch + in.words[4] + (size_t)row * width;
  const float* norm = in.address<float>(5);
  float* to = step.scratch + in.words[8];
  // Each block adds up all squares: to wait for others would take longer.
  float squares = 0.0f;
  for (int i = threadIdx.x; i < width / 4; i += THREADS) {
    float4 x = __ldcg(reinterpret_cast<const float4*>(from) + i);
    squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
  }
  squares = sum_of_warp(squares);
  if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = squares;
  sync();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < WARPS; i++) sum += shared.sums[i];
  float factor = rsqrtf(sum / width + in.number(6));
  for (int i = part * THREADS + threadIdx.x; i < width; i += parts * THREADS) {
    size_t at = (size_t)row * width + i;
    float y = __ldcg(to + at) + __ldcg(from + i) * factor * __ldg(norm + i);
    __stcg(to + at, y);
    if constexpr (IS_NARROW<ROWS>) hand_over_hidden<ROWS>(in, step, row, width, i, y);
  }
}

} // namespace mlxr
