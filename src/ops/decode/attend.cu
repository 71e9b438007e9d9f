// Attention of one new token of each sequence over its cache, split across the card.
//
// A block takes a head of keys, up to four of the query heads that share it, and a run of positions. Each warp goes
// through positions of its own with a softmax of its own (Milakov and Gimelshein 2018, arXiv:1805.02867); what the
// warps have found is merged at the end, and the runs by `combine`.

namespace mlxr {

template <int RATIO>
struct Heads {
  // Query heads of a block.
  static constexpr int EACH = RATIO < 4 ? RATIO : 4;
  static constexpr int BLOCKS = (RATIO + EACH - 1) / EACH;
};

// How a warp goes through positions.
template <int WIDTH, int EACH, int CACHE>
struct Walk : Tiles<WIDTH, CACHE> {
  using Tiles<WIDTH, CACHE>::Tiles;
};
template <int WIDTH, int EACH>
struct Walk<WIDTH, EACH, FLOAT32> : Lanes<WIDTH, EACH> {
  using Lanes<WIDTH, EACH>::Lanes;
};

constexpr float LOG2E = 1.4426950408889634f;

template <int WIDTH, int RATIO, int CACHE, int ROWS>
__device__ __forceinline__ void attend(const Instruction& in, const Step& step, char* memory) {
  using H = Heads<RATIO>;
  using W = Walk<WIDTH, H::EACH, CACHE>;
  constexpr int EACH = H::EACH;
  // A number for each head of queries that counts as a position's score whose value is zero (gpt-oss).
  const float* sinks = in.address<float>(14);
  int layer = in.integer(1), heads = in.integer(2), kv_heads = in.integer(3), window = in.integer(17);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* queries = reinterpret_cast<float*>(memory + W::MEMORY);  // [EACH][WIDTH]
  float* fresh = queries + EACH * WIDTH;                          // [2][WIDTH]: the new key and value
  float* scores = fresh + 2 * WIDTH;                              // [EACH]: of the new position
  float* most = scores + EACH;                                    // [WARPS][EACH]
  float* total = most + WARPS * EACH;                             // [WARPS][EACH]
  // Where a warp's positions were: it has gone through them.
  static_assert(EACH * WIDTH * 4 <= W::RING / WARPS, "what a warp finds has room in its ring");
  auto found = [&](int warp) { return reinterpret_cast<float*>(memory + warp * (W::RING / WARPS)); };  // [EACH][WIDTH]
  int units = step.rows * kv_heads * H::BLOCKS * step.splits;
  unsigned before = arrive(step.barrier);
  if (blockIdx.x >= units) wait(step.barrier, before);
  for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
    int split = unit % step.splits, rest = unit / step.splits;
    int part = rest % H::BLOCKS;
    rest /= H::BLOCKS;
    int head = rest % kv_heads, row = rest / kv_heads;
    int count = min(EACH, RATIO - part * EACH);
    int first_head = head * RATIO + part * EACH;
    // The new position is not read back: it is here when its turn comes.
    int position = step.positions[row];
    int seen = window && position + 1 > window ? position + 1 - window : 0;
    int each = (position + 1 - seen + step.splits - 1) / step.splits;
    int begin = seen + split * each;
    bool is_last = begin <= position && begin + each > position;
    const int* place = step.places + 2 * (row * step.layers + layer);
    const long long* addresses = step.caches + 2 * (row * step.layers + layer);
    char* keys = reinterpret_cast<char*>(addresses[0]);
    char* values = reinterpret_cast<char*>(addresses[1]);
    Positions run{keys, values, (size_t)head * place[0] * WIDTH, place[1], begin, min(begin + each, position)};
    // What was there before this step comes while other blocks still work on queries.
    W walk(memory, run);
    if (unit == blockIdx.x) wait(step.barrier, before);
    const float* source = step.scratch + in.words[5] + (size_t)row * (heads + 2 * kv_heads) * WIDTH;
    const float2* turns = reinterpret_cast<const float2*>(step.scratch + in.words[12]) + row * (in.integer(13) / 2);
    if (warp < 4) {
      float* query = queries + warp * WIDTH;
      if (warp < count)
        turn<WIDTH>(in, source + (first_head + warp) * WIDTH, in.address<float>(8), turns, in.number(11) * LOG2E, query);
      walk.take(warp, warp < count ? query : nullptr);
    } else if (warp < 6 && is_last) {
      bool is_key = warp == 4;
      float* to = fresh + (is_key ? 0 : WIDTH);
      const float* from = source + (heads + (is_key ? 0 : kv_heads) + head) * WIDTH;
      if (is_key) turn<WIDTH>(in, from, in.address<float>(9), turns, 1.0f, to);
      else
        for (int i = lane; i < WIDTH; i += 32) to[i] = __ldcg(from + i);
      // As later steps will find them.
      size_t there = run.base + (size_t)(position - run.start) * WIDTH;
      for (int i = lane; i < WIDTH; i += 32) to[i] = write_number<CACHE>(is_key ? keys : values, there + i, to[i]);
    }
    sync();
    walk.go();
    __syncwarp();
    walk.hand_in(count, most + warp * EACH, total + warp * EACH, found(warp));
    if (is_last && warp < count) {
      float score = 0.0f;
      for (int i = lane; i < WIDTH; i += 32) score += queries[warp * WIDTH + i] * fresh[i];
      score = sum_of_warp(score);
      if (lane == 0) scores[warp] = score;
    }
    sync();
    for (int i = threadIdx.x; i < count * WIDTH; i += THREADS) {
      int h = i / WIDTH, at = i % WIDTH;
      bool has_sink = sinks && step.splits == 1;
      float sink = has_sink ? __ldg(sinks + first_head + h) * LOG2E : -1e30f;
      float now = is_last ? fmaxf(scores[h], sink) : sink;
#pragma unroll
      for (int w = 0; w < WARPS; w++) now = fmaxf(now, most[w * EACH + h]);
      float own = is_last ? power_of_two(scores[h] - now) : 0.0f;
      float result = is_last ? own * fresh[WIDTH + at] : 0.0f;
      float all = own + (has_sink ? power_of_two(sink - now) : 0.0f);
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        float share = power_of_two(most[w * EACH + h] - now);
        all += total[w * EACH + h] * share;
        result += found(w)[h * WIDTH + at] * share;
      }
      int query = first_head + h;
      if (step.splits == 1) {
        hand_over<ROWS>(in, step, 6, row, heads * WIDTH, query * WIDTH + at, result / all);
      } else {
        float* to = step.scratch + in.words[7] + (size_t)((row * heads + query) * MAX_SPLITS + split) * (WIDTH + 4);
        __stcg(to + 4 + at, result);
        if (at == 0) {
          __stcg(to, now);
          __stcg(to + 1, all);
        }
      }
    }
    sync();
  }
}

// The runs of positions together: some threads share a number, each with runs of its own.
template <int WIDTH, int ROWS>
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
    sync();
    if (share == 0) {
      const float* sinks = in.address<float>(14);
      int heads = in.integer(2), head = unit % heads;
      float sink = sinks ? __ldg(sinks + head) * LOG2E : -1e30f;
      float highest = fmaxf(now, sink), sum = 0.0f, total = 0.0f;
#pragma unroll
      for (int i = 1; i < SHARES; i++) highest = fmaxf(highest, shares[i * WIDTH + at].x);
#pragma unroll
      for (int i = 0; i < SHARES; i++) {
        float3 one = shares[i * WIDTH + at];
        float part = power_of_two(one.x - highest);
        sum += one.y * part;
        total += one.z * part;
      }
      if (sinks) sum += power_of_two(sink - highest);
      hand_over<ROWS>(in, step, 6, unit / heads, heads * WIDTH, head * WIDTH + at, total / sum);
    }
    sync();
  }
}

} // namespace mlxr
