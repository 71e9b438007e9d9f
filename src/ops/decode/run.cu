// The program of a step, instruction after instruction, on all blocks.

namespace mlxr {

template <int ROWS, int VARIANTS, int SCALES, int RANKS, int VARIANT = 0>
__device__ __forceinline__ void multiply_any(const Instruction& in, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  if constexpr (VARIANT < RAGGED + FORMATS) {
    if constexpr ((VARIANTS >> VARIANT & 1) != 0) {
      if (in.integer(15) == VARIANT) return multiply<ROWS, VARIANT, SCALES, RANKS>(in, step, mail, shared, memory);
    }
    multiply_any<ROWS, VARIANTS, SCALES, RANKS, VARIANT + 1>(in, step, mail, shared, memory);
  }
}

template <int ROWS, int VARIANTS, int SCALES, int WIDTH, int RATIO, int CACHE, int RANKS>
__device__ __forceinline__ void run(const long long* program, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  // The last warp brings instructions: the first one's thread is who meets the other blocks.
  int word = threadIdx.x - (THREADS - 32);
  if (threadIdx.x < 16) shared.zeros[threadIdx.x] = make_uint4(0, 0, 0, 0);
  program += WORDS;
  if (word >= 0) shared.code[0][word] = program[word];
  __syncthreads();
  for (int side = 0;; side ^= 1) {
    Instruction in{shared.code[side]};
    int code = in.integer(0);
    if (code == END) return;
    program += WORDS;
    long long next = word >= 0 ? __ldg(program + word) : 0;
    if (code == ANGLES) {
      // Needs nothing that other blocks have made.
      angles(in, step);
    } else if (code == MULTIPLY) {
      multiply_any<ROWS, VARIANTS, SCALES, RANKS>(in, step, mail, shared, memory);
    } else if (code == ATTEND) {
      attend<WIDTH, RATIO, CACHE, IS_NARROW<ROWS>>(in, step, memory);
    } else if (RANKS > 1 && code == SUM) {
      // Waits for numbers, not for blocks.
      add_up<RANKS, IS_NARROW<ROWS>>(in, step, mail);
    } else if (code != COMBINE || step.splits > 1) {
      wait(step.barrier, arrive(step.barrier));
      if (code == EMBED) embed<SCALES, IS_NARROW<ROWS>>(in, step);
      else if (code == ADD_NORMED) add_normed<IS_NARROW<ROWS>>(in, step, shared);
      else combine<WIDTH, IS_NARROW<ROWS>>(in, step, memory);
    }
    if (word >= 0) shared.code[side ^ 1][word] = next;
    __syncthreads();
  }
}

} // namespace mlxr
