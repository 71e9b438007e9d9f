// One number of a causal convolution of each channel by itself, and its activation. The rows begin with those
// before the first.
const int at = blockIdx.x * blockDim.x + threadIdx.x;
const int row = at / CHANNELS, channel = at % CHANNELS;
if (row >= length[0]) return;
float sum = 0.0f;
#pragma unroll
for (int tap = 0; tap < TAPS; tap++) {
    const size_t from = size_t(row + tap) * CHANNELS + channel;
    sum += float(rows[from]) * float(taps[tap * CHANNELS + channel]);
}
mixed[at] = sum / (1.0f + expf(-sum));
