// From tokens to hidden states.

namespace mlxr {

// Copies rows of the embedding into the residual stream.
template <int SCALES, int ROWS>
__device__ __forceinline__ void embed(const Instruction& in, const Step& step) {
  int hidden = in.integer(1), format = in.integer(2), group = in.integer(3);
  float* to = step.scratch + in.words[7];
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < step.rows * hidden; i += gridDim.x * THREADS) {
    int row = i / hidden, column = i % hidden;
    // There is none where the step before gave no numbers, of which nothing is kept.
    size_t token = max(step.tokens[row], 0);
    size_t at = token * hidden + column;
    float x;
    if (format == 0) {
      x = read_number<BFLOAT16>(in.address<void>(4), at);
    } else if (format == 6) {
      x = read_number<FLOAT32>(in.address<void>(4), at);
    } else {
      int bits = format == 2 ? 8 : 4, each = 32 / bits;
      unsigned word = __ldg(in.address<unsigned>(4) + at / each);
      unsigned q = (word >> (column % each * bits)) & ((1u << bits) - 1);
      size_t of = token * (hidden / group) + column / group;
      if (format >= 3) x = from_float4(q) * scale_of_float4(format == 3, __ldg(in.address<unsigned char>(5) + of));
      else x = read_number<SCALES>(in.address<void>(5), of) * q + read_number<SCALES>(in.address<void>(6), of);
    }
    to[i] = x * in.number(8);
    if constexpr (IS_NARROW<ROWS>) hand_over_hidden<ROWS>(in, step, row, hidden, column, to[i]);
  }
}

} // namespace mlxr
