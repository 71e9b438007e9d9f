// The largest of each row, the first of equals; -1 where one is no number, or infinite, or none is finite.
// One block a row.
const float* from = logits + (size_t)blockIdx.x * SIZE;
float best = -INFINITY;
int at = SIZE;
bool is_bad = false;
auto look = [&](float x, int i) {
  is_bad |= !(x < INFINITY);
  if (x > best) {
    best = x;
    at = i;
  }
};
// As many loads at once as it takes to keep memory busy.
constexpr int ONCE = 8;
int first = threadIdx.x;
for (; first + (ONCE - 1) * 1024 < SIZE; first += ONCE * 1024) {
  float x[ONCE];
#pragma unroll
  for (int i = 0; i < ONCE; i++) x[i] = from[first + i * 1024];
#pragma unroll
  for (int i = 0; i < ONCE; i++) look(x[i], first + i * 1024);
}
for (; first < SIZE; first += 1024) look(from[first], first);

__shared__ float bests[32];
__shared__ int places[32];
auto take = [&](float x, int i) {
  if (x > best || (x == best && i < at)) {
    best = x;
    at = i;
  }
};
for (int o = 16; o; o >>= 1) {
  float x = __shfl_xor_sync(0xffffffffu, best, o);
  int i = __shfl_xor_sync(0xffffffffu, at, o);
  take(x, i);
}
if (threadIdx.x % 32 == 0) {
  bests[threadIdx.x / 32] = best;
  places[threadIdx.x / 32] = at;
}
is_bad = __syncthreads_or(is_bad);
if (threadIdx.x == 0) {
  for (int i = 1; i < 32; i++) take(bests[i], places[i]);
  int token = is_bad || at == SIZE ? -1 : at;
  tokens[blockIdx.x] = token;
  for_host[blockIdx.x] = token;
}
