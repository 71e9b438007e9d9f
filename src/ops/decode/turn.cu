// Heads of queries and keys, turned to their positions (Su et al. 2021, arXiv:2104.09864).

namespace mlxr {

// Cosine and sine of each pair's angle at each row's position, for all layers.
__device__ __forceinline__ void angles(const Instruction& in, const Step& step) {
  int pairs = in.integer(1) / 2;
  float2* to = reinterpret_cast<float2*>(step.scratch + in.words[4]);
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < step.rows * pairs; i += gridDim.x * THREADS) {
    float sine, cosine;
    sincosf(step.positions[i / pairs] * in.number(3) / __ldg(in.address<float>(2) + i % pairs), &sine, &cosine);
    to[i] = make_float2(cosine, sine);
  }
}

// A head, normalized and turned to its position, by one warp, in shared memory.
template <int WIDTH>
__device__ __forceinline__ void turn(const Instruction& in, const float* from, const float* norm, const float2* angles, float scale,
                     float* to) {
  int lane = threadIdx.x % 32;
  float x[(WIDTH + 31) / 32];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < (WIDTH + 31) / 32; i++) {
    x[i] = __ldcg(from + lane + 32 * i);
    squares += x[i] * x[i];
  }
  if (norm) {
    float factor = rsqrtf(sum_of_warp(squares) / WIDTH + in.number(10));
#pragma unroll
    for (int i = 0; i < (WIDTH + 31) / 32; i++) x[i] *= factor * __ldg(norm + lane + 32 * i);
  }
#pragma unroll
  for (int i = 0; i < (WIDTH + 31) / 32; i++) to[lane + 32 * i] = x[i];
  __syncwarp();
  int rotated = in.integer(13), half = rotated / 2;
  bool is_interleaved = in.integer(16) != 0;
#pragma unroll
  for (int i = 0; i < (WIDTH + 31) / 32; i++) {
    int at = lane + 32 * i;
    if (at >= rotated) {
      x[i] *= scale;
      continue;
    }
    bool is_first = is_interleaved ? at % 2 == 0 : at < half;
    int pair = is_interleaved ? at / 2 : is_first ? at : at - half;
    float other = to[is_interleaved ? at ^ 1 : is_first ? at + half : at - half];
    float2 angle = __ldcg(angles + pair);
    x[i] = (x[i] * angle.x + (is_first ? -other : other) * angle.y) * in.number(15) * scale;
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < (WIDTH + 31) / 32; i++) to[lane + 32 * i] = x[i];
  __syncwarp();
}

} // namespace mlxr
