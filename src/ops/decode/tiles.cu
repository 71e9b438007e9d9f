// Attention of a warp over keys and values of two bytes, 16 positions at a time, on tensor cores.

namespace mlxr {

template <int CACHE>
__device__ __forceinline__ unsigned pair_of(float x, float y) {
  if constexpr (CACHE == BFLOAT16) return to_bf16_pair(x, y);
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
  return pair;
}

template <int CACHE>
__device__ __forceinline__ float2 both_of(unsigned pair) {
  if constexpr (CACHE == BFLOAT16) return make_float2(from_bf16(pair), __uint_as_float(pair & 0xffff0000u));
  return make_float2(from_f16(pair & 0xffffu), from_f16(pair >> 16));
}

template <int CACHE>
__device__ __forceinline__ void multiply_halves(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (CACHE == BFLOAT16) {
    multiply_tile(c, a[0], a[1], a[2], a[3], b0, b1);
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Up to four heads of queries. Queries, and then what each position counts, are sums of two numbers of 16 bits; both
// parts of head h are rows 2h and 2h + 1 of the first product's left side, and columns of the second's right.
//
// Scores = queries x keys: lane 4g + t has row g, and of keys 16 bytes of position g (which number is which k does not
// matter as long as queries lie alike). They come out as the second product takes them: of row g, positions 2t and
// 2t + 1. Its left side are values, transposed on their way out of shared memory.
template <int WIDTH, int CACHE>
struct Tiles {
  static constexpr int AT_ONCE = 16;
  // What comes at once: of 16 positions, so many numbers each, in pieces of 16 bytes.
  static constexpr int SPAN = 64;
  static constexpr int PARTS = WIDTH / SPAN;
  static constexpr int PIECES = SPAN / 8;
  static constexpr int BYTES = AT_ONCE * SPAN * 2;
  static constexpr int RING = 64 * 1024;
  static constexpr int SLOTS = RING / WARPS / BYTES;
  // Rows of queries, 64 bytes apart on the banks.
  static constexpr int STRIDE = WIDTH * 2 + 64;
  static constexpr int MEMORY = RING + 8 * STRIDE;

  const Positions& run;
  char* ring;
  char* queries;
  // What is fetched next, and the slot of what is used next.
  int ahead, part, slot;
  float highest = -1e30f, weight = 0.0f;
  float sums[WIDTH / 16][4];

  __device__ __forceinline__ Tiles(char* memory, const Positions& run) : run(run) {
    int warp = threadIdx.x / 32;
    ring = memory + warp * (SLOTS * BYTES);
    queries = memory + RING;
    ahead = run.begin + warp * AT_ONCE;
    part = slot = 0;
#pragma unroll
    for (int i = 0; i < WIDTH / 16; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) sums[i][j] = 0.0f;
#pragma unroll
    for (int i = 0; i < SLOTS; i++) fetch(i);
  }

  // Part after part of the keys of 16 positions, then of their values.
  __device__ __forceinline__ void fetch(int to) {
    if (ahead < run.end) {
      int lane = threadIdx.x % 32, piece = lane % PIECES;
      bool is_value = part >= PARTS;
      const char* from = is_value ? run.values : run.keys;
      from += 2 * (run.base + (size_t)(ahead - run.start) * WIDTH + (is_value ? part - PARTS : part) * SPAN + piece * 8);
      unsigned place = (unsigned)__cvta_generic_to_shared(ring + to * BYTES);
#pragma unroll
      for (int i = 0; i < PIECES / 2; i++) {
        int row = i * (32 / PIECES) + lane / PIECES;
        // Those that are read together lie on different banks.
        int there = piece ^ (is_value ? row & 7 : (row & 1) * 4);
        mlxr::fetch<16>(place + row * (SPAN * 2) + there * 16, from + (size_t)min(row, run.end - 1 - ahead) * (WIDTH * 2));
      }
      if (++part == 2 * PARTS) {
        part = 0;
        ahead += WARPS * AT_ONCE;
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  // What comes next has come.
  __device__ __forceinline__ const char* wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(SLOTS - 1) : "memory");
    __syncwarp();
    return ring + slot * BYTES;
  }

  // It has been used.
  __device__ __forceinline__ void go_on() {
    __syncwarp();
    fetch(slot);
    slot = slot + 1 == SLOTS ? 0 : slot + 1;
  }

  // A head of queries by one warp, or none.
  __device__ __forceinline__ void take(int head, const float* query) {
    unsigned* to = reinterpret_cast<unsigned*>(queries + 2 * head * STRIDE);
    for (int i = threadIdx.x % 32; i < WIDTH / 2; i += 32) {
      float x = query ? query[2 * i] : 0.0f, y = query ? query[2 * i + 1] : 0.0f;
      unsigned high = pair_of<CACHE>(x, y);
      float2 there = both_of<CACHE>(high);
      to[i] = high;
      to[i + STRIDE / 4] = pair_of<CACHE>(x - there.x, y - there.y);
    }
  }

  __device__ __forceinline__ void go() {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int at = run.begin + threadIdx.x / 32 * AT_ONCE; at < run.end; at += WARPS * AT_ONCE) {
      float scores[2][4] = {};
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        const char* keys = wait() + g * (SPAN * 2);
#pragma unroll
        for (int i = 0; i < SPAN / 32; i++) {
          uint4 q = *reinterpret_cast<const uint4*>(queries + g * STRIDE + (part * SPAN + 32 * i + 8 * t) * 2);
          unsigned first[4] = {q.x, 0, q.y, 0}, second[4] = {q.z, 0, q.w, 0};
#pragma unroll
          for (int half = 0; half < 2; half++) {
            uint4 k = *reinterpret_cast<const uint4*>(keys + half * 8 * (SPAN * 2) + (4 * i + t ^ (g & 1) * 4) * 16);
            multiply_halves<CACHE>(scores[half], first, k.x, k.y);
            multiply_halves<CACHE>(scores[half], second, k.z, k.w);
          }
        }
        go_on();
      }
      // Both parts together, of 2t and 2t + 1, and of those eight further on.
      float score[4], now = highest;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        score[i] = scores[i / 2][i % 2];
        score[i] += __shfl_xor_sync(0xffffffffu, score[i], 4);
        if (at + i / 2 * 8 + 2 * t + i % 2 >= run.end) score[i] = -1e30f;
        now = fmaxf(now, score[i]);
      }
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
      float shrink = power_of_two(highest - now);
      highest = now;
      weight *= shrink;
      unsigned shares[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        // Where nothing is there, nor was before, the difference is zero.
        float x = score[2 * i] > -1e29f ? power_of_two(score[2 * i] - now) : 0.0f;
        float y = score[2 * i + 1] > -1e29f ? power_of_two(score[2 * i + 1] - now) : 0.0f;
        weight += x + y;
        unsigned high = pair_of<CACHE>(x, y);
        float2 there = both_of<CACHE>(high);
        shares[i] = g % 2 ? pair_of<CACHE>(x - there.x, y - there.y) : high;
      }
      if (__any_sync(0xffffffffu, shrink != 1.0f)) {
        // Columns 2t and 2t + 1 are those of head t.
        float own = __shfl_sync(0xffffffffu, shrink, 8 * t);
#pragma unroll
        for (int i = 0; i < WIDTH / 16; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) sums[i][j] *= own;
      }
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        int row = lane % 8 + lane / 16 * 8;
        unsigned values = (unsigned)__cvta_generic_to_shared(wait()) + row * (SPAN * 2);
#pragma unroll
        for (int i = 0; i < SPAN / 16; i++) {
          unsigned v[4];
          asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                       : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                       : "r"(values + (2 * i + lane / 8 % 2 ^ row & 7) * 16)
                       : "memory");
          multiply_halves<CACHE>(sums[part * (SPAN / 16) + i], v, shares[0], shares[1]);
        }
        go_on();
      }
    }
  }

  // What the warp has found, of heads before `count`.
  __device__ __forceinline__ void hand_in(int count, float* most, float* total, float* found) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    weight += __shfl_xor_sync(0xffffffffu, weight, 1);
    weight += __shfl_xor_sync(0xffffffffu, weight, 2);
    if (t == 0 && g % 2 == 0 && g / 2 < count) {
      most[g / 2] = highest;
      total[g / 2] = weight;
    }
    if (t >= count) return;
#pragma unroll
    for (int i = 0; i < WIDTH / 16; i++) {
      found[t * WIDTH + 16 * i + g] = sums[i][0] + sums[i][1];
      found[t * WIDTH + 16 * i + g + 8] = sums[i][2] + sums[i][3];
    }
  }
};

} // namespace mlxr
