// Columns of a head's state through all tokens. A column is shared by LANES threads, which hold its numbers in
// registers: number `i · LANES + lane` of DK. Tokens come by the stage: while the threads of a block work on
// those of one, which lie in shared memory, they wait for the next one's.
constexpr int LANES = 8;
constexpr int NUMBERS = (DK + LANES - 1) / LANES;
constexpr int WIDTH = NUMBERS * LANES;
constexpr int THREADS = 128;
constexpr int COLUMNS = THREADS / LANES;
constexpr int STAGE = 8;
constexpr int LOADS = (STAGE * WIDTH + THREADS - 1) / THREADS;

__shared__ float staged_keys[STAGE * WIDTH];
__shared__ float staged_queries[STAGE * WIDTH];
__shared__ float staged_values[STAGE * COLUMNS];
__shared__ float staged_decays[STAGE];
__shared__ float staged_shares[STAGE];

const int lane = threadIdx.x % LANES;
const int own = threadIdx.x / LANES;
const int column = blockIdx.x * COLUMNS + own;
const int head = blockIdx.y;
const int key_head = head / (HV / HK);
const int tokens = length[0];
const bool there = column < DV;

float column_state[NUMBERS];
#pragma unroll
for (int i = 0; i < NUMBERS; i++) {
    const int at = i * LANES + lane;
    const bool inside = there && at < DK;
    column_state[i] = inside ? state[(size_t(head) * DK + at) * DV + column] : 0.0f;
}

float next_keys[LOADS], next_queries[LOADS];
float next_value = 0.0f, next_decay = 0.0f, next_share = 0.0f;
auto load = [&](int first) {
    #pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const int at = i * THREADS + threadIdx.x;
        const int token = first + at / WIDTH, number = at % WIDTH;
        const bool inside = at < STAGE * WIDTH && token < tokens && number < DK;
        const size_t from = (size_t(token) * HK + key_head) * DK + number;
        next_keys[i] = inside ? keys[from] : 0.0f;
        next_queries[i] = inside ? queries[from] : 0.0f;
    }
    {
        const int token = first + threadIdx.x / COLUMNS;
        const int of_block = blockIdx.x * COLUMNS + threadIdx.x % COLUMNS;
        const bool inside = token < tokens && of_block < DV;
        next_value = inside ? values[(size_t(token) * HV + head) * DV + of_block] : 0.0f;
    }
    if (threadIdx.x < STAGE) {
        const int token = first + threadIdx.x;
        const size_t from = size_t(token) * HV + head;
        next_decay = token < tokens ? expf(decays[from]) : 1.0f;
        next_share = token < tokens ? shares[from] : 0.0f;
    }
};
auto store = [&]() {
    #pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const int at = i * THREADS + threadIdx.x;
        if (at < STAGE * WIDTH) {
            staged_keys[at] = next_keys[i];
            staged_queries[at] = next_queries[i];
        }
    }
    staged_values[threadIdx.x] = next_value;
    if (threadIdx.x < STAGE) {
        staged_decays[threadIdx.x] = next_decay;
        staged_shares[threadIdx.x] = next_share;
    }
};
static_assert(STAGE * COLUMNS == THREADS, "a thread loads one value");

load(0);
for (int first = 0; first < tokens; first += STAGE) {
    __syncthreads();
    store();
    __syncthreads();
    load(first + STAGE);
    #pragma unroll
    for (int step = 0; step < STAGE; step++) {
        const float decay = staged_decays[step];
        float key[NUMBERS], parts[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        #pragma unroll
        for (int i = 0; i < NUMBERS; i++) {
            key[i] = staged_keys[step * WIDTH + i * LANES + lane];
            column_state[i] *= decay;
            parts[i % 4] += column_state[i] * key[i];
        }
        float held = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        #pragma unroll
        for (int other = LANES / 2; other > 0; other /= 2) {
            held += __shfl_xor_sync(0xffffffffu, held, other);
        }
        const float value = staged_values[step * COLUMNS + own];
        const float correction = (value - held) * staged_shares[step];
        float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        #pragma unroll
        for (int i = 0; i < NUMBERS; i++) {
            column_state[i] += correction * key[i];
            sums[i % 4] += column_state[i] * staged_queries[step * WIDTH + i * LANES + lane];
        }
        float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        #pragma unroll
        for (int other = LANES / 2; other > 0; other /= 2) {
            sum += __shfl_xor_sync(0xffffffffu, sum, other);
        }
        const int token = first + step;
        if (there && lane == 0 && token < tokens) {
            read[(size_t(token) * HV + head) * DV + column] = sum;
        }
    }
}
#pragma unroll
for (int i = 0; i < NUMBERS; i++) {
    const int at = i * LANES + lane;
    if (there && at < DK) new_state[(size_t(head) * DK + at) * DV + column] = column_state[i];
}
