extern __shared__ uint4 shared[];
using namespace mlxr;
using T = typename Pointed<decltype(x)>::Type;
using N = Number<T>;
// Sixteen bytes of a row of W that a lane has of 128 inputs.
constexpr int PIECES = BITS / 4;
const int matrix = tiles[3 * blockIdx.y], first = tiles[3 * blockIdx.y + 1], end = tiles[3 * blockIdx.y + 2];
if (first >= end) return;
const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
const int begin = blockIdx.x * OUTPUTS + warp * 32;

// Scales of the lane's 32 inputs.
constexpr int SCALES = GROUP < 32 ? 32 / GROUP : 1;
constexpr bool IS_FLOAT4 = sizeof(scales[0]) == 1;

// Of four rows of W: where the lane's numbers are, and their scales.
const char* weights[4];
size_t groups[4];
#pragma unroll
for (int j = 0; j < 4; j++) {
  const size_t row = (size_t)matrix * outputs + min(begin + 8 * j + g, outputs - 1);
  weights[j] = reinterpret_cast<const char*>(weight) + row * (inputs / 8 * BITS) + t * (4 * BITS);
  groups[j] = row * (inputs / GROUP);
}
uint4 packed[4][PIECES];
unsigned scale[4][SCALES], bias[4];
auto read = [&](int at) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (at + 32 * t >= inputs) {
      // Nothing is left of the row: x is zero there, and shall not meet what is no number.
#pragma unroll
      for (int i = 0; i < PIECES; i++) packed[j][i] = make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < SCALES; i++) scale[j][i] = 0;
      bias[j] = 0;
      continue;
    }
#pragma unroll
    for (int i = 0; i < PIECES; i++) packed[j][i] = __ldg(reinterpret_cast<const uint4*>(weights[j] + at / 8 * BITS) + i);
    const size_t group = groups[j] + (at + 32 * t) / GROUP;
#pragma unroll
    for (int i = 0; i < SCALES; i++) scale[j][i] = both<GROUP>(scales[group + i]);
    bias[j] = both<GROUP>(biases[group]);
  }
};

// Of eight rows of x each thread brings sixteen bytes of 128 inputs.
const T* sources[ROWS / 8];
#pragma unroll
for (int i = 0; i < ROWS / 8; i++) {
  const int row = rows[min(first + i * 8 + (int)threadIdx.x / 16, end - 1)];
  sources[i] = x + (size_t)row * inputs + threadIdx.x % 16 * 8;
}
auto bring = [&](int at) {
  if (at < inputs) {
    uint4* to = shared + at / INPUTS % STAGES * (ROWS * INPUTS / 8);
#pragma unroll
    for (int i = 0; i < ROWS / 8; i++) {
      const unsigned place = (unsigned)__cvta_generic_to_shared(to + place_of(i * 8 + threadIdx.x / 16, threadIdx.x % 16));
      const int bytes = at + (int)threadIdx.x % 16 * 8 < inputs ? 16 : 0;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(sources[i] + at), "r"(bytes) : "memory");
    }
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
};

float sums[4][4][4] = {};
for (int i = 0; i < STAGES - 1; i++) bring(i * INPUTS);
read(0);
for (int at = 0; at < inputs; at += INPUTS) {
  asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
  __syncthreads();
  bring(at + (STAGES - 1) * INPUTS);
  const uint4* here = shared + at / INPUTS % STAGES * (ROWS * INPUTS / 8);
  // Eight inputs at a time.
#pragma unroll
  for (int s = 0; s < 4; s++) {
    unsigned b[4][4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if constexpr (BITS == 4) {
          const uint4& words = packed[j][0];
          const unsigned word = s == 0 ? words.x : s == 1 ? words.y : s == 2 ? words.z : words.w;
          if constexpr (IS_FLOAT4) b[j][i] = of_float4(word, i, scale[j][s * SCALES / 4]);
          else b[j][i] = of_four_bits<T>(word, i, scale[j][0], bias[j]);
        } else {
          const uint4& words = packed[j][s / 2];
          const unsigned word = s % 2 ? (i < 2 ? words.z : words.w) : (i < 2 ? words.x : words.y);
          b[j][i] = of_eight_bits<T>(word, i % 2, scale[j][0], bias[j]);
        }
      }
    }
    // The next weights come while the last of these are multiplied.
    if (s == 3 && at + INPUTS < inputs) read(at + INPUTS);
#pragma unroll
    for (int m = 0; m < 4; m++) {
      const uint4 upper = here[place_of(m * 16 + g, t * 4 + s)], lower = here[place_of(m * 16 + 8 + g, t * 4 + s)];
      const unsigned near[4] = {upper.x, lower.x, upper.y, lower.y}, far[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        N::multiply(sums[m][j], near, b[j][0], b[j][1]);
        N::multiply(sums[m][j], far, b[j][2], b[j][3]);
      }
    }
  }
}
#pragma unroll
for (int m = 0; m < 4; m++) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = first + m * 16 + i * 8 + g, output = begin + 8 * j + 2 * t;
      if (row < end && output < outputs) {
        const unsigned two = N::two(sums[m][j][2 * i], sums[m][j][2 * i + 1]);
        *reinterpret_cast<unsigned*>(y + (size_t)row * outputs + output) = two;
      }
    }
  }
}
