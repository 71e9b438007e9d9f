// What the stages of a decode step share. A stage is one instruction; between two stages all blocks meet.

namespace mlxr {

// Warps that compute, and behind them those that read weights.
constexpr int WARPS = 16;
constexpr int THREADS = WARPS * 32;
constexpr int READERS = 4;
// Warps that one of these reads for; they share a tile.
constexpr int TOGETHER = WARPS / READERS;
constexpr int WORDS = 32;
constexpr int MAX_SPLITS = 32;
constexpr int MAX_TAKEN = 16;
constexpr int MAX_EXPERTS = 512;
constexpr int MAX_ROWS = 16;
constexpr int MAX_RANKS = 8;

enum Code { END, EMBED, MULTIPLY, ATTEND, COMBINE, ANGLES, SUM, ADD_NORMED };
enum Kind { STORE, ADD, GATE, LOGITS, SHARE };
enum Number { BFLOAT16, FLOAT16, FLOAT32 };

// Each way a matrix is stored; see Layout. RAGGED is added where rows do not end with a step.
enum Variant {
  DENSE_BF16, AFFINE4_32, AFFINE4_64, AFFINE4_128, AFFINE8_32, AFFINE8_64, DENSE_F32, MXFP4, NVFP4, FORMATS, RAGGED = 16
};

// What a step is given. In shared memory, as all that outlives a stage: what threads keep in memory of their own is
// lost to their cache at every meeting.
struct Step {
  const int* tokens;
  const long long* caches;
  const int* places;
  float* scratch;
  unsigned* barrier;
  float* logits;
  int rows;
  int splits;
  int layers;
  // Maps of matrices that no step has known yet, and how many they are.
  const char* maps;
  int new_maps;
  int positions[MAX_ROWS];
};

// One instruction, in shared memory.
struct Instruction {
  const long long* words;
  __device__ int integer(int i) const { return (int)words[i]; }
  __device__ float number(int i) const { return __int_as_float((int)words[i]); }
  template <typename T>
  __device__ const T* address(int i) const { return reinterpret_cast<const T*>(words[i]); }
};

__device__ __forceinline__ float from_bf16(unsigned bits) { return __uint_as_float(bits << 16); }

// To the nearest, ties to even; no NaN comes here that matters.
__device__ __forceinline__ unsigned to_bf16(float x) {
  return Bfloat16(x).bits;
}

__device__ __forceinline__ unsigned word_of(const uint4& from, int i) {
  return i == 0 ? from.x : i == 1 ? from.y : i == 2 ? from.z : from.w;
}

// Both at once, the first in the low half: one instruction, where one number takes a slow one.
__device__ __forceinline__ unsigned to_bf16_pair(float x, float y) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
  return pair;
}

__device__ __forceinline__ float from_f16(unsigned bits) {
  Float16 number;
  number.bits = (unsigned short)bits;
  return number;
}

template <int NUMBER>
__device__ __forceinline__ float read_number(const void* at, size_t i) {
  if constexpr (NUMBER == FLOAT32) return __ldg(static_cast<const float*>(at) + i);
  unsigned bits = __ldg(static_cast<const unsigned short*>(at) + i);
  return NUMBER == BFLOAT16 ? from_bf16(bits) : from_f16(bits);
}

// Gives what was written.
template <int NUMBER>
__device__ __forceinline__ float write_number(void* at, size_t i, float x) {
  if constexpr (NUMBER == FLOAT32) {
    static_cast<float*>(at)[i] = x;
    return x;
  }
  unsigned bits = NUMBER == BFLOAT16 ? to_bf16(x) : Float16(x).bits;
  static_cast<unsigned short*>(at)[i] = (unsigned short)bits;
  return NUMBER == BFLOAT16 ? from_bf16(bits) : from_f16(bits);
}

// 2 to the x, to two units in the last place.
__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float sum_of_warp(float x) {
#pragma unroll
  for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  return x;
}

// The warps that compute meet.
__device__ __forceinline__ void sync() {
  asm volatile("bar.sync 0, %0;" ::"n"(THREADS) : "memory");
}

// All blocks are on the card at once: as many as it has multiprocessors, and one fits on each. The counter's top
// bit changes when the last block has come; it needs no reset.
__device__ __forceinline__ unsigned arrive(unsigned* barrier) {
  unsigned before = 0;
  if (threadIdx.x == 0) {
    unsigned add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(barrier), "r"(add) : "memory");
  }
  return before;
}

// By the thread that arrived.
__device__ __forceinline__ void wait_alone(unsigned* barrier, unsigned before) {
  unsigned now;
  long long began = clock64();
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(barrier) : "memory");
    // Some seconds: a block is missing, which an error tells better than a card that hangs.
    if (clock64() - began > 20000000000ll) __trap();
  } while (((before ^ now) & 0x80000000u) == 0);
}

__device__ __forceinline__ void wait(unsigned* barrier, unsigned before) {
  if (threadIdx.x == 0) wait_alone(barrier, before);
  sync();
}

} // namespace mlxr
