// One product as an instruction of the kernel that decodes, which waits for no other block. Addresses are in words of 4
// bytes, as places in the scratch memory.
extern __shared__ __align__(128) uint4 memory[];
__shared__ mlxr::Shared shared;
__shared__ mlxr::Step step;
__shared__ mlxr::Mail mail;
if (threadIdx.x < mlxr::WORDS) shared.code[0][threadIdx.x] = 0;
if (threadIdx.x < 16) shared.zeros[threadIdx.x] = make_uint4(0, 0, 0, 0);
__syncthreads();
if (threadIdx.x == 0) {
  long long* words = shared.code[0];
  words[1] = inputs;
  words[7] = mlxr::STORE;
  words[8] = reinterpret_cast<long long>(y) / 4;
  words[10] = 1;
  words[11] = words[20] = outputs;
  words[12] = reinterpret_cast<long long>(x) / 4;
  words[14] = each;
  words[16] = reinterpret_cast<long long>(weight);
  words[17] = reinterpret_cast<long long>(scales);
  words[18] = reinterpret_cast<long long>(biases);
  step.scratch = nullptr;
  step.rows = rows;
}
constexpr int SLOT = mlxr::Numbers<VARIANT, SCALES>::SLOT;
mlxr::begin<mlxr::AHEAD<ROWS, SLOT>>(shared);
__syncthreads();
mlxr::Instruction in{shared.code[0]};
if (threadIdx.x < mlxr::THREADS) {
  mlxr::multiply<ROWS, VARIANT, SCALES, 1, SLOT, false>(in, step, mail, shared, reinterpret_cast<char*>(memory));
} else {
  mlxr::Turn<mlxr::AHEAD<ROWS, SLOT>> turn{0, 0};
  mlxr::read<ROWS, VARIANT, SCALES, SLOT, false>(in, nullptr, shared, mlxr::in_shared(memory), turn);
}
