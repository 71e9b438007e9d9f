// What processes that compute together send each other, each on a card of its own: numbers of a product of which each
// has a part. A number comes with another one that says which sum of which step it is for, both in one store, so that
// who waits for it waits for nothing else.
//
// A card's mail begins with how many sums there were in all steps before, the same on each card. Two buffers come in
// turn: who writes into one for the second time has had what the others sent for the sum between, and these sent it
// after all their blocks had added up the first.

namespace mlxr {

constexpr int HEAD = 32;

struct Mail {
  unsigned long long* numbers[MAX_RANKS];
  int rank;
  unsigned before;
};

// Where a rank's numbers of a row are, in each card's mail.
__device__ __forceinline__ size_t place_in_mail(long long buffer, int rank, int row, int width) {
  return HEAD + buffer + ((size_t)rank * MAX_ROWS + row) * width;
}

// Sends to all, itself too. What is not whole yet is kept here.
template <int RANKS>
__device__ __forceinline__ void send(const Mail& mail, size_t at, float y, unsigned sum, bool is_first, bool is_last) {
  unsigned long long* own = mail.numbers[mail.rank] + at;
  if (!is_first) y += __uint_as_float((unsigned)__ldcg(own));
  unsigned long long number = (unsigned long long)(is_last ? mail.before + sum : 0) << 32 | __float_as_uint(y);
  if (!is_last) {
    __stcg(own, number);
    return;
  }
#pragma unroll
  for (int i = 0; i < RANKS; i++) {
    unsigned long long* to = mail.numbers[(mail.rank + i) % RANKS] + at;
    asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(to), "l"(number) : "memory");
  }
}

__device__ __forceinline__ unsigned long long look(const unsigned long long* at) {
  unsigned long long number;
  asm volatile("ld.relaxed.sys.global.b64 %0, [%1];" : "=l"(number) : "l"(at) : "memory");
  return number;
}

// Adds up what all send, on each card in the same order: to the residual stream, or to be normalized before.
template <int RANKS, int ROWS>
__device__ __forceinline__ void add_up(const Instruction& in, const Step& step, const Mail& mail) {
  int hidden = in.integer(1);
  unsigned expected = mail.before + in.integer(5);
  bool is_whole = in.integer(6) == 0;
  float* to = step.scratch + in.words[8];
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < step.rows * hidden; i += gridDim.x * THREADS) {
    const unsigned long long* from = mail.numbers[mail.rank] + i;
    unsigned long long numbers[RANKS];
    float y = is_whole ? __ldcg(to + i) : 0.0f;
#pragma unroll
    for (int rank = 0; rank < RANKS; rank++) numbers[rank] = look(from + place_in_mail(in.words[4], rank, 0, hidden));
    long long began = clock64();
#pragma unroll
    for (int rank = 0; rank < RANKS; rank++) {
      while ((unsigned)(numbers[rank] >> 32) != expected) {
        numbers[rank] = look(from + place_in_mail(in.words[4], rank, 0, hidden));
        // Most of a minute: another process is not there.
        if (clock64() - began > 100000000000ll) __trap();
      }
      y += __uint_as_float((unsigned)numbers[rank]);
    }
    __stcg(to + i, y);
    if constexpr (IS_NARROW<ROWS>) {
      if (is_whole) hand_over_hidden<ROWS>(in, step, i / hidden, hidden, i % hidden, y);
    }
  }
}

} // namespace mlxr
