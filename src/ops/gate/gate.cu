// activation(gate) * up, some neighbouring numbers by each thread.
using Number = typename mlxr::Pointed<decltype(gate)>::Type;
constexpr int EACH = 16 / sizeof(Number);
struct alignas(16) Some { Number numbers[EACH]; };
const size_t first = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * EACH;
const size_t end = min(first + EACH, size_t(count));
if (first + EACH == end && (reinterpret_cast<size_t>(gate) | reinterpret_cast<size_t>(up)) % 16 == 0) {
    const Some g = *reinterpret_cast<const Some*>(gate + first), u = *reinterpret_cast<const Some*>(up + first);
    Some out;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        out.numbers[i] = Number(mlxr::gated<ACTIVATION>(float(g.numbers[i]), float(u.numbers[i]), __int_as_float(LIMIT)));
    }
    *reinterpret_cast<Some*>(gated + first) = out;
    return;
}
for (size_t i = first; i < end; i++) {
    gated[i] = Number(mlxr::gated<ACTIVATION>(float(gate[i]), float(up[i]), __int_as_float(LIMIT)));
}
