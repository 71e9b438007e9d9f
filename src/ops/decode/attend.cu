// Attention of one new token of each sequence over its cache, split across the card.
//
// A block takes a head of keys, up to four of the query heads that share it, and a run of positions. Each warp goes
// through positions of its own with a softmax of its own (Milakov and Gimelshein 2018, arXiv:1805.02867); what the
// warps have found is merged at the end, and the runs by `combine`.

namespace mlxr {

template <int WIDTH, int RATIO>
struct Heads {
  // Query heads of a block.
  static constexpr int EACH = RATIO < 4 ? RATIO : 4;
  static constexpr int BLOCKS = (RATIO + EACH - 1) / EACH;
  // Lanes that share a position, eight numbers each.
  static constexpr int LANES = WIDTH / 8;
  static constexpr int AT_ONCE = 32 / LANES;
  static constexpr int UNROLLED = 2;
};

template <int WIDTH, int RATIO, int CACHE, bool NARROW>
__device__ __forceinline__ void attend(const Instruction& in, const Step& step, char* memory) {
  using H = Heads<WIDTH, RATIO>;
  constexpr int EACH = H::EACH, LANES = H::LANES;
  constexpr float LOG2E = 1.4426950408889634f;
  int layer = in.integer(1), heads = in.integer(2), kv_heads = in.integer(3), window = in.integer(17);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  using R = Ring<H::UNROLLED, CACHE>;
  float* queries = reinterpret_cast<float*>(memory + R::BYTES);  // [EACH][WIDTH]
  float* fresh = queries + EACH * WIDTH;                         // [2][WIDTH]: the new key and value
  float* most = fresh + 2 * WIDTH;                               // [WARPS][EACH]
  float* total = most + WARPS * EACH;                            // [WARPS][EACH]
  float* found = total + WARPS * EACH;                           // [WARPS][EACH][WIDTH]
  int units = step.rows * kv_heads * H::BLOCKS * step.splits;
  unsigned before = arrive(step.barrier);
  if (blockIdx.x >= units) wait(step.barrier, before);
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    int run = unit % step.splits, rest = unit / step.splits;
    int part = rest % H::BLOCKS;
    rest /= H::BLOCKS;
    int head = rest % kv_heads, row = rest / kv_heads;
    int count = min(EACH, RATIO - part * EACH);
    int first_head = head * RATIO + part * EACH;
    // The new position is not read back: it is here when its turn comes.
    int position = step.positions[row];
    int seen = window && position + 1 > window ? position + 1 - window : 0;
    int each = (position + 1 - seen + step.splits - 1) / step.splits;
    int begin = seen + run * each, end = min(begin + each, position);
    bool is_last = begin <= position && begin + each > position;
    const int* place = step.places + 2 * (row * step.layers + layer);
    size_t base = (size_t)head * place[0] * WIDTH;
    int start = place[1];
    const long long* addresses = step.caches + 2 * (row * step.layers + layer);
    char* keys = reinterpret_cast<char*>(addresses[0]);
    char* values = reinterpret_cast<char*>(addresses[1]);
    int within = lane % LANES * 8;
    constexpr int TOGETHER = H::AT_ONCE * H::UNROLLED;
    int at = begin + warp * TOGETHER;
    R ring(memory);
    int next = at;
    auto fetch = [&](int to) {
      if (next < end) {
#pragma unroll
        for (int u = 0; u < H::UNROLLED; u++) {
          int here = min(next + u * H::AT_ONCE + lane / LANES, end - 1);
          ring.fetch(to, u, keys, values, base + (size_t)(here - start) * WIDTH + within);
        }
        next += WARPS * TOGETHER;
      }
      asm volatile("cp.async.commit_group;" ::: "memory");
    };
    // What was there before this step comes while other blocks still work on queries.
#pragma unroll
    for (int i = 0; i < R::STEPS - 1; i++) fetch(ring.after(i));
    if (unit == blockIdx.x) wait(step.barrier, before);
    const float* source = step.scratch + in.words[5] + (size_t)row * (heads + 2 * kv_heads) * WIDTH;
    const float2* turns = reinterpret_cast<const float2*>(step.scratch + in.words[12]) + row * (in.integer(13) / 2);
    for (int i = warp; i < count + 2; i += WARPS) {
      if (i < count) {
        turn<WIDTH>(in, source + (first_head + i) * WIDTH, in.address<float>(8), turns, in.number(11) * LOG2E,
                    queries + i * WIDTH);
      } else if (is_last) {
        size_t to = base + (size_t)(position - start) * WIDTH;
        float* from = fresh + (i - count) * WIDTH;
        if (i == count) turn<WIDTH>(in, source + (heads + head) * WIDTH, in.address<float>(9), turns, 1.0f, from);
        else
          for (int j = lane; j < WIDTH; j += 32) from[j] = __ldcg(source + (heads + kv_heads + head) * WIDTH + j);
        // As later steps will find them.
        for (int j = lane; j < WIDTH; j += 32) from[j] = write_number<CACHE>(i == count ? keys : values, to + j, from[j]);
      }
    }
    __syncthreads();
    float sum[EACH][8], highest[EACH], weight[EACH];
#pragma unroll
    for (int h = 0; h < EACH; h++) {
      highest[h] = -1e30f;
      weight[h] = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; i++) sum[h][i] = 0.0f;
    }
    for (; at < end; at += WARPS * TOGETHER) {
      ring.wait();
      // To where the last was, with which all has been computed.
      fetch(ring.after(R::STEPS - 1));
      Eight<CACHE> k[H::UNROLLED], v[H::UNROLLED];
      ring.read_keys(k);
      float scores[H::UNROLLED][EACH];
#pragma unroll
      for (int h = 0; h < EACH; h++) {
        // Out of shared memory each time: there are no registers for all of them.
        const float* q = queries + h * WIDTH + within;
#pragma unroll
        for (int u = 0; u < H::UNROLLED; u++) {
          bool is_there = at + u * H::AT_ONCE + lane / LANES < end;
          float score = 0.0f;
#pragma unroll
          for (int i = 0; i < 8; i++) score += q[i] * k[u][i];
#pragma unroll
          for (int o = LANES / 2; o; o >>= 1) score += __shfl_xor_sync(0xffffffffu, score, o);
          scores[u][h] = is_there ? score : -1e30f;
        }
      }
      ring.read_values(v);
      ring.slot = (ring.slot + 1) % R::STEPS;
#pragma unroll
      for (int h = 0; h < EACH; h++) {
        float now = highest[h];
#pragma unroll
        for (int u = 0; u < H::UNROLLED; u++) now = fmaxf(now, scores[u][h]);
        float shrink = power_of_two(highest[h] - now);
        highest[h] = now;
        weight[h] *= shrink;
#pragma unroll
        for (int i = 0; i < 8; i++) sum[h][i] *= shrink;
#pragma unroll
        for (int u = 0; u < H::UNROLLED; u++) {
          // Where nothing is there, nor was before, the difference is zero.
          float share = scores[u][h] > -1e29f ? power_of_two(scores[u][h] - now) : 0.0f;
          weight[h] += share;
#pragma unroll
          for (int i = 0; i < 8; i++) sum[h][i] += share * v[u][i];
        }
      }
    }
    if (is_last && warp == WARPS - 1) {
#pragma unroll
      for (int h = 0; h < EACH; h++) {
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) score += queries[h * WIDTH + within + i] * fresh[within + i];
#pragma unroll
        for (int o = LANES / 2; o; o >>= 1) score += __shfl_xor_sync(0xffffffffu, score, o);
        float now = fmaxf(highest[h], score), shrink = power_of_two(highest[h] - now);
        // One of the lanes' groups has it.
        float share = lane < LANES ? power_of_two(score - now) : 0.0f;
        highest[h] = now;
        weight[h] = weight[h] * shrink + share;
#pragma unroll
        for (int i = 0; i < 8; i++) sum[h][i] = sum[h][i] * shrink + share * fresh[WIDTH + within + i];
      }
    }
    // Lanes that went through other positions of the same warp.
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
        for (int i = 0; i < 8; i++) sum[h][i] = sum[h][i] * mine + __shfl_xor_sync(0xffffffffu, sum[h][i], o) * its;
      }
    }
    if (lane < LANES) {
#pragma unroll
      for (int h = 0; h < EACH; h++) {
        if (lane == 0) {
          most[warp * EACH + h] = highest[h];
          total[warp * EACH + h] = weight[h];
        }
#pragma unroll
        for (int i = 0; i < 8; i++) found[(warp * EACH + h) * WIDTH + within + i] = sum[h][i];
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * WIDTH; i += THREADS) {
      int h = i / WIDTH, at = i % WIDTH;
      float now = -1e30f, all = 0.0f, result = 0.0f;
#pragma unroll
      for (int w = 0; w < WARPS; w++) now = fmaxf(now, most[w * EACH + h]);
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        float share = power_of_two(most[w * EACH + h] - now);
        all += total[w * EACH + h] * share;
        result += found[(w * EACH + h) * WIDTH + at] * share;
      }
      int query = first_head + h;
      if (step.splits == 1) {
        hand_over<NARROW>(step.scratch + in.words[6], (size_t)(row * heads + query) * WIDTH + at, result / all);
      } else {
        float* to = step.scratch + in.words[7] + (size_t)((row * heads + query) * MAX_SPLITS + run) * (WIDTH + 4);
        __stcg(to + 4 + at, result);
        if (at == 0) {
          __stcg(to, now);
          __stcg(to + 1, all);
        }
      }
    }
    __syncthreads();
  }
}

// The runs of positions together: some threads share a number, each with runs of its own.
template <int WIDTH, bool NARROW>
__device__ __forceinline__ void combine(const Instruction& in, const Step& step, char* memory) {
  constexpr int SHARES = THREADS / WIDTH;
  constexpr int MOST = MAX_SPLITS / SHARES;
  float3* shares = reinterpret_cast<float3*>(memory);
  int at = threadIdx.x % WIDTH, share = threadIdx.x / WIDTH;
  for (int unit = blockIdx.x; unit < step.rows * in.integer(2); unit += gridDim.x) {
    const float* from = step.scratch + in.words[7] + (size_t)unit * MAX_SPLITS * (WIDTH + 4);
    float highest[MOST], weight[MOST], found[MOST];
    float now = -1e30f;
#pragma unroll
    for (int i = 0; i < MOST; i++) {
      int run = share + i * SHARES;
      bool is_there = run < step.splits;
      const float* here = from + (is_there ? run : 0) * (WIDTH + 4);
      highest[i] = is_there ? __ldcg(here) : -1e30f;
      weight[i] = is_there ? __ldcg(here + 1) : 0.0f;
      found[i] = is_there ? __ldcg(here + 4 + at) : 0.0f;
      now = fmaxf(now, highest[i]);
    }
    float all = 0.0f, result = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST; i++) {
      float part = power_of_two(highest[i] - now);
      all += weight[i] * part;
      result += found[i] * part;
    }
    shares[threadIdx.x] = make_float3(now, all, result);
    __syncthreads();
    if (share == 0) {
      float highest = now, sum = 0.0f, total = 0.0f;
#pragma unroll
      for (int i = 1; i < SHARES; i++) highest = fmaxf(highest, shares[i * WIDTH + at].x);
#pragma unroll
      for (int i = 0; i < SHARES; i++) {
        float3 one = shares[i * WIDTH + at];
        float part = power_of_two(one.x - highest);
        sum += one.y * part;
        total += one.z * part;
      }
      hand_over<NARROW>(step.scratch + in.words[6], (size_t)unit * WIDTH + at, total / sum);
    }
    __syncthreads();
  }
}

} // namespace mlxr
