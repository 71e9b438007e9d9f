// Columns of a head's state through all tokens. A column is shared by LANES threads, which hold its numbers in
// registers: number `i · LANES + lane` of DK.
constexpr int LANES = 8;
constexpr int NUMBERS = (DK + LANES - 1) / LANES;
const int lane = thread_position_in_grid.x % LANES;
const int column = thread_position_in_grid.x / LANES;
const int head = thread_position_in_grid.y;
const int key_head = head / (HV / HK);
const int tokens = length[0];
const bool there = column < DV;

float column_state[NUMBERS];
for (int i = 0; i < NUMBERS; i++) {
    const int at = i * LANES + lane;
    const bool inside = there && at < DK;
    column_state[i] = inside ? state[(size_t(head) * DK + at) * DV + column] : 0.0f;
}
for (int token = 0; token < tokens; token++) {
    const device float* k = keys + (size_t(token) * HK + key_head) * DK;
    const device float* q = queries + (size_t(token) * HK + key_head) * DK;
    const size_t of_head = size_t(token) * HV + head;
    const float value = there ? values[of_head * DV + column] : 0.0f;
    const float decay = exp(decays[of_head]);
    const float share = shares[of_head];
    float key[NUMBERS], query[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) {
        const int at = i * LANES + lane;
        key[i] = at < DK ? k[at] : 0.0f;
        query[i] = at < DK ? q[at] : 0.0f;
    }
    float held = 0.0f;
    for (int i = 0; i < NUMBERS; i++) {
        column_state[i] *= decay;
        held += column_state[i] * key[i];
    }
    for (int other = LANES / 2; other > 0; other /= 2) held += simd_shuffle_xor(held, other);
    const float correction = (value - held) * share;
    float sum = 0.0f;
    for (int i = 0; i < NUMBERS; i++) {
        column_state[i] += correction * key[i];
        sum += column_state[i] * query[i];
    }
    for (int other = LANES / 2; other > 0; other /= 2) sum += simd_shuffle_xor(sum, other);
    if (there && lane == 0) read[of_head * DV + column] = sum;
}
for (int i = 0; i < NUMBERS; i++) {
    const int at = i * LANES + lane;
    if (there && at < DK) new_state[(size_t(head) * DK + at) * DV + column] = column_state[i];
}
