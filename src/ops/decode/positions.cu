// Keys and values on their way from memory to registers.

namespace mlxr {

// Eight numbers as they are stored. On their way, those of a warp's lanes are side by side, 16 bytes each.
template <int CACHE>
struct Eight {
  static constexpr int PIECES = CACHE == FLOAT32 ? 2 : 1;
  static constexpr int OF_WARP = PIECES * 512;
  uint4 bits[PIECES];

  __device__ __forceinline__ void read(const char* from) {
#pragma unroll
    for (int i = 0; i < PIECES; i++) bits[i] = *reinterpret_cast<const uint4*>(from + i * 512);
  }

  __device__ static __forceinline__ void fetch(unsigned to, const char* from, size_t i) {
#pragma unroll
    for (int j = 0; j < PIECES; j++) mlxr::fetch<16>(to + j * 512, from + i * (2 * PIECES) + j * 16);
  }

  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (CACHE == FLOAT32) return __uint_as_float(word_of(bits[i / 4], i % 4));
    unsigned word = word_of(bits[0], i / 2);
    if constexpr (CACHE == BFLOAT16) return __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
    return from_f16(i % 2 ? word >> 16 : word & 0xffffu);
  }
};

// A warp's ring in shared memory: some steps of keys and values are on their way while one is computed with. Each lane
// reads what it fetched itself.
template <int UNROLLED, int CACHE>
struct Ring {
  using E = Eight<CACHE>;
  static constexpr int BYTES = 128 * 1024;
  static constexpr int STEP = 2 * UNROLLED * E::OF_WARP;
  static constexpr int STEPS = BYTES / WARPS / STEP;

  const char* from;
  unsigned to;
  int slot = 0;

  __device__ __forceinline__ Ring(const char* memory) {
    from = memory + threadIdx.x / 32 * (BYTES / WARPS) + threadIdx.x % 32 * 16;
    to = (unsigned)__cvta_generic_to_shared(from);
  }

  // The place of a step after the present one, which may be the one before.
  __device__ __forceinline__ int after(int steps) const {
    return (slot + steps) % STEPS * STEP;
  }

  __device__ __forceinline__ void fetch(int step, int u, const char* keys, const char* values, size_t i) const {
    E::fetch(to + step + 2 * u * E::OF_WARP, keys, i);
    E::fetch(to + step + (2 * u + 1) * E::OF_WARP, values, i);
  }

  // Waits for the present step.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(STEPS - 2) : "memory");
  }

  __device__ __forceinline__ void read_keys(E (&k)[UNROLLED]) const {
#pragma unroll
    for (int u = 0; u < UNROLLED; u++) k[u].read(from + slot * STEP + 2 * u * E::OF_WARP);
  }

  __device__ __forceinline__ void read_values(E (&v)[UNROLLED]) const {
#pragma unroll
    for (int u = 0; u < UNROLLED; u++) v[u].read(from + slot * STEP + (2 * u + 1) * E::OF_WARP);
  }
};

} // namespace mlxr
