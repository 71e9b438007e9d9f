// Which experts a token takes.

namespace mlxr {

// The experts with the highest scores, of equal ones the first, and their weights.
__device__ __forceinline__ void route(const Instruction& in, const Step& step, Shared& shared) {
  if (threadIdx.x < 32) {
    int lane = threadIdx.x, taken = in.integer(31), count = in.integer(29);
    float scores[MAX_EXPERTS / 32], highest = -INFINITY, all = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MAX_EXPERTS / 32; i++) {
      int expert = lane + 32 * i;
      scores[i] = expert < count ? __ldcg(step.scratch + in.words[27] + expert) : -INFINITY;
      highest = fmaxf(highest, scores[i]);
    }
#pragma unroll
    for (int o = 16; o; o >>= 1) highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, o));
#pragma unroll
    for (int i = 0; i < MAX_EXPERTS / 32; i++) all += __expf(scores[i] - highest);
    all = sum_of_warp(all);
    for (int k = 0; k < taken; k++) {
      float best = -INFINITY;
      int at = MAX_EXPERTS;
#pragma unroll
      for (int i = 0; i < MAX_EXPERTS / 32; i++)
        if (scores[i] > best) {
          best = scores[i];
          at = lane + 32 * i;
        }
#pragma unroll
      for (int o = 16; o; o >>= 1) {
        float other = __shfl_xor_sync(0xffffffffu, best, o);
        int its = __shfl_xor_sync(0xffffffffu, at, o);
        if (other > best || (other == best && its < at)) {
          best = other;
          at = its;
        }
      }
#pragma unroll
      for (int i = 0; i < MAX_EXPERTS / 32; i++)
        if (at == lane + 32 * i) scores[i] = -INFINITY;
      float share = __expf(best - highest);
      sum += share;
      if (lane == 0) {
        // Where scores are no numbers, any expert will do: what comes out is no number either.
        shared.experts[k] = min(at, count - 1);
        shared.shares[k] = share;
      }
    }
    __syncwarp();
    // Among those that are taken, or among all.
    if (lane < taken) shared.shares[lane] /= in.integer(30) ? sum : all;
  }
  sync();
}

} // namespace mlxr
