// Steps of weights on their way: a ring in shared memory for each warp that reads, of which some others take the steps.
// It waits for nothing but room, so memory is read on while blocks meet, bring inputs and attend.

namespace mlxr {

__device__ __forceinline__ unsigned in_shared(const void* at) { return (unsigned)__cvta_generic_to_shared(at); }

__device__ __forceinline__ void expect(unsigned long long& barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(in_shared(&barrier)), "r"(count) : "memory");
}

__device__ __forceinline__ void tell(unsigned long long& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(in_shared(&barrier)) : "memory");
}

// That so many bytes come before it is told that all has.
__device__ __forceinline__ void expect_bytes(unsigned barrier, int bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Tells when all has come that the lane has asked for.
__device__ __forceinline__ void tell_when_come(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Until all have told for the time that is so even or odd.
__device__ __forceinline__ void wait_for(unsigned barrier, int side) {
  unsigned is_told;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(is_told)
                 : "r"(barrier), "r"(side)
                 : "memory");
  } while (!is_told);
}

// Where in a ring somebody is, and whether for an odd time.
template <int COUNT>
struct Turn {
  int slot, side;

  __device__ __forceinline__ void next() {
    if (++slot == COUNT) {
      slot = 0;
      side ^= 1;
    }
  }
};

// By all threads of a block, before any of them waits.
template <int COUNT>
__device__ __forceinline__ void begin(Shared& shared) {
  Rings& rings = shared.rings;
  int at = threadIdx.x;
  if (at < READERS * COUNT) {
    expect(rings.come[at / COUNT][at % COUNT], 32);
    expect(rings.used[at / COUNT][at % COUNT], TOGETHER);
  }
  if (at < WARPS) rings.turns[at] = shared.brought_sides[at] = 0;
  if (at == 0) expect(rings.routed, 1);
  if (at == 0) expect(shared.brought, 1);
  // The copy engine will know of them too.
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

} // namespace mlxr
