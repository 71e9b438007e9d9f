// Attention of a warp over keys and values of float32, in float32.

namespace mlxr {

// A run of positions of a head of keys.
struct Positions {
  const char* keys;
  const char* values;
  // Numbers before the head, and the position of its first row.
  size_t base;
  int start;
  int begin, end;
};

// Some lanes share a position, eight numbers each.
template <int WIDTH, int EACH>
struct Lanes {
  static constexpr int LANES = WIDTH / 8;
  static constexpr int AT_ONCE = 32 / LANES;
  static constexpr int UNROLLED = 1;
  static constexpr int TOGETHER = AT_ONCE * UNROLLED;
  // Of keys and values, 32 bytes a lane, in two halves.
  static constexpr int STEP = 2 * UNROLLED * 1024;
  static constexpr int RING = 64 * 1024;
  static constexpr int STEPS = RING / WARPS / STEP;
  static constexpr int MEMORY = RING + EACH * WIDTH * 4;

  const Positions& run;
  const char* ring;
  float* queries;
  int next, slot = 0;
  float highest[EACH], weight[EACH], sums[EACH][8];

  __device__ __forceinline__ Lanes(char* memory, const Positions& run) : run(run) {
    int warp = threadIdx.x / 32;
    // Each lane reads what it fetched itself.
    ring = memory + warp * (RING / WARPS) + threadIdx.x % 32 * 16;
    queries = reinterpret_cast<float*>(memory + RING);
    next = run.begin + warp * TOGETHER;
#pragma unroll
    for (int h = 0; h < EACH; h++) {
      highest[h] = -1e30f;
      weight[h] = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; i++) sums[h][i] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < STEPS - 1; i++) fetch(i);
  }

  __device__ __forceinline__ void fetch(int to) {
    if (next < run.end) {
      int lane = threadIdx.x % 32;
      unsigned place = (unsigned)__cvta_generic_to_shared(ring) + to * STEP;
#pragma unroll
      for (int u = 0; u < UNROLLED; u++) {
        int here = min(next + u * AT_ONCE + lane / LANES, run.end - 1);
        size_t from = 4 * (run.base + (size_t)(here - run.start) * WIDTH + lane % LANES * 8);
#pragma unroll
        for (int i = 0; i < 2; i++) {
          mlxr::fetch<16>(place + (4 * u + i) * 512, run.keys + from + i * 16);
          mlxr::fetch<16>(place + (4 * u + 2 + i) * 512, run.values + from + i * 16);
        }
      }
      next += WARPS * TOGETHER;
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  // Eight numbers of the present step, of keys or values.
  __device__ __forceinline__ void read(int which, float (&x)[8]) const {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float4 four = *reinterpret_cast<const float4*>(ring + slot * STEP + (2 * which + i) * 512);
      x[4 * i] = four.x, x[4 * i + 1] = four.y, x[4 * i + 2] = four.z, x[4 * i + 3] = four.w;
    }
  }

  // A head of queries by one warp, or none.
  __device__ __forceinline__ void take(int head, const float* query) {
    if (head >= EACH) return;
    for (int i = threadIdx.x % 32; i < WIDTH; i += 32) queries[head * WIDTH + i] = query ? query[i] : 0.0f;
  }

  __device__ __forceinline__ void go() {
    int lane = threadIdx.x % 32;
    for (int at = run.begin + threadIdx.x / 32 * TOGETHER; at < run.end; at += WARPS * TOGETHER) {
      asm volatile("cp.async.wait_group %0;" ::"n"(STEPS - 2) : "memory");
      // To where the last was, with which all has been computed.
      fetch((slot + STEPS - 1) % STEPS);
      float scores[UNROLLED][EACH];
#pragma unroll
      for (int u = 0; u < UNROLLED; u++) {
        float k[8];
        read(2 * u, k);
        bool is_there = at + u * AT_ONCE + lane / LANES < run.end;
#pragma unroll
        for (int h = 0; h < EACH; h++) {
          const float* q = queries + h * WIDTH + lane % LANES * 8;
          float score = 0.0f;
#pragma unroll
          for (int i = 0; i < 8; i++) score += q[i] * k[i];
#pragma unroll
          for (int o = LANES / 2; o; o >>= 1) score += __shfl_xor_sync(0xffffffffu, score, o);
          scores[u][h] = is_there ? score : -1e30f;
        }
      }
#pragma unroll
      for (int u = 0; u < UNROLLED; u++) {
        float v[8];
        read(2 * u + 1, v);
#pragma unroll
        for (int h = 0; h < EACH; h++) {
          float now = fmaxf(highest[h], scores[u][h]);
          float shrink = power_of_two(highest[h] - now);
          // Where nothing is there, nor was before, the difference is zero.
          float share = scores[u][h] > -1e29f ? power_of_two(scores[u][h] - now) : 0.0f;
          highest[h] = now;
          weight[h] = weight[h] * shrink + share;
#pragma unroll
          for (int i = 0; i < 8; i++) sums[h][i] = sums[h][i] * shrink + share * v[i];
        }
      }
      slot = (slot + 1) % STEPS;
    }
  }

  // What the warp has found, of heads before `count`.
  __device__ __forceinline__ void hand_in(int count, float* most, float* total, float* found) {
    int lane = threadIdx.x % 32;
    // Lanes that went through other positions.
#pragma unroll
    for (int o = LANES; o < 32; o *= 2) {
#pragma unroll
      for (int h = 0; h < EACH; h++) {
        float other = __shfl_xor_sync(0xffffffffu, highest[h], o);
        float now = fmaxf(highest[h], other);
        float mine = power_of_two(highest[h] - now), its = power_of_two(other - now);
        highest[h] = now;
        weight[h] = weight[h] * mine + __shfl_xor_sync(0xffffffffu, weight[h], o) * its;
#pragma unroll
        for (int i = 0; i < 8; i++) sums[h][i] = sums[h][i] * mine + __shfl_xor_sync(0xffffffffu, sums[h][i], o) * its;
      }
    }
    if (lane >= LANES) return;
#pragma unroll
    for (int h = 0; h < EACH; h++) {
      if (h >= count) continue;
      if (lane == 0) {
        most[h] = highest[h];
        total[h] = weight[h];
      }
#pragma unroll
      for (int i = 0; i < 8; i++) found[h * WIDTH + lane * 8 + i] = sums[h][i];
    }
  }
};

} // namespace mlxr
