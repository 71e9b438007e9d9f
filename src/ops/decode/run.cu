// The program of a step, instruction after instruction, on all blocks.

namespace mlxr {

// Where in its ring a warp is that reads.
template <int ROWS, int VARIANTS, int SCALES>
using Reading = Turn<AHEAD<ROWS, slot_of<VARIANTS, SCALES>()>>;

template <int ROWS, int VARIANTS, int SCALES, int VARIANT = 0>
__device__ __forceinline__ void read_any(const Instruction& in, const long long* program, Shared& shared, unsigned ring,
                                         Reading<ROWS, VARIANTS, SCALES>& turn) {
  if constexpr (VARIANT < RAGGED + FORMATS) {
    if constexpr ((VARIANTS >> VARIANT & 1) != 0) {
      constexpr int SLOT = slot_of<VARIANTS, SCALES>();
      if (in.integer(15) == VARIANT) return read<ROWS, VARIANT, SCALES, SLOT>(in, program, shared, ring, turn);
    }
    read_any<ROWS, VARIANTS, SCALES, VARIANT + 1>(in, program, shared, ring, turn);
  }
}

// The warps that read go through the program too, as fast as weights are multiplied with.
template <int ROWS, int VARIANTS, int SCALES>
__device__ __forceinline__ void read_all(const long long* program, Shared& shared, char* memory) {
  int reader = threadIdx.x / 32 - WARPS, lane = threadIdx.x % 32, routed = 0;
  long long* words = shared.ahead[reader];
  Instruction in{words};
  unsigned ring = in_shared(memory);
  Reading<ROWS, VARIANTS, SCALES> turn{0, 0};
  const long long* begin = program;
  program += WORDS;
  long long next = __ldg(program + lane);
  for (;;) {
    words[lane] = next;
    __syncwarp();
    int code = in.integer(0);
    if (code == END) break;
    program += WORDS;
    next = __ldg(program + lane);
    if (code == MULTIPLY) {
      if (in.integer(31)) {
        wait_for(in_shared(&shared.rings.routed), routed);
        routed ^= 1;
      }
      read_any<ROWS, VARIANTS, SCALES>(in, begin, shared, ring, turn);
    }
    __syncwarp();
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
}

template <int ROWS, int VARIANTS, int SCALES, int RANKS, int VARIANT = 0>
__device__ __forceinline__ void multiply_any(const Instruction& in, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  if constexpr (VARIANT < RAGGED + FORMATS) {
    if constexpr ((VARIANTS >> VARIANT & 1) != 0) {
      constexpr int SLOT = slot_of<VARIANTS, SCALES>();
      if (in.integer(15) == VARIANT)
        return multiply<ROWS, VARIANT, SCALES, RANKS, SLOT>(in, step, mail, shared, memory);
    }
    multiply_any<ROWS, VARIANTS, SCALES, RANKS, VARIANT + 1>(in, step, mail, shared, memory);
  }
}

template <int ROWS, int VARIANTS, int SCALES, int WIDTH, int RATIO, int CACHE, int RANKS>
__device__ __forceinline__ void run(const long long* program, const Step& step, const Mail& mail, Shared& shared, char* memory) {
  begin<AHEAD<ROWS, slot_of<VARIANTS, SCALES>()>>(shared);
  if (threadIdx.x < 16) shared.zeros[threadIdx.x] = make_uint4(0, 0, 0, 0);
  __syncthreads();
  if (threadIdx.x >= THREADS) return read_all<ROWS, VARIANTS, SCALES>(program, shared, memory);
  // What the rings leave.
  char* rest = memory + RING<ROWS, slot_of<VARIANTS, SCALES>()>;
  // The last warp brings instructions: the first one's thread is who meets the other blocks.
  int word = threadIdx.x - (THREADS - 32);
  program += WORDS;
  if (word >= 0) shared.code[0][word] = program[word];
  sync();
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
      attend<WIDTH, RATIO, CACHE, ROWS>(in, step, rest);
    } else if (RANKS > 1 && code == SUM) {
      // Waits for numbers, not for blocks.
      add_up<RANKS, ROWS>(in, step, mail);
    } else if (code != COMBINE || step.splits > 1) {
      wait(step.barrier, arrive(step.barrier));
      if (code == EMBED) embed<SCALES, ROWS>(in, step);
      else if (code == ADD_NORMED) add_normed<ROWS>(in, step, shared);
      else combine<WIDTH, ROWS>(in, step, rest);
    }
    if (word >= 0) shared.code[side ^ 1][word] = next;
    sync();
  }
}

} // namespace mlxr
