extern __shared__ __align__(128) uint4 memory[];
__shared__ mlxr::Shared shared;
__shared__ mlxr::Step step;
__shared__ mlxr::Mail mail;
if (threadIdx.x == 0) {
  step.tokens = tokens;
  step.caches = reinterpret_cast<const long long*>(caches);
  step.places = places;
  step.scratch = const_cast<float*>(scratch);
  step.barrier = const_cast<unsigned*>(barrier);
  step.logits = logits;
  step.rows = sizes[0];
  step.splits = sizes[1];
  // What comes before the first instruction says what holds for all.
  step.layers = (int)program[1];
  step.maps = reinterpret_cast<const char*>(program[12]);
  step.new_maps = (int)program[13];
  mail.rank = (int)program[2];
  for (int i = 0; i < RANKS; i++) mail.numbers[i] = reinterpret_cast<unsigned long long*>(program[4 + i]);
  if (RANKS > 1 && program[3] != 0) mail.before = *reinterpret_cast<const volatile unsigned*>(mail.numbers[mail.rank]);
}
if (threadIdx.x < sizes[0]) step.positions[threadIdx.x] = positions[threadIdx.x];
__syncthreads();
// Of maps that were written since the last step, what lay there before may still be remembered.
for (int i = threadIdx.x; i < step.new_maps; i += mlxr::THREADS)
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(step.maps + 128 * i) : "memory");
mlxr::run<ROWS, VARIANTS, SCALES, WIDTH, RATIO, CACHE, RANKS>(reinterpret_cast<const long long*>(program), step, mail,
                                                              shared, reinterpret_cast<char*>(memory));
// All blocks have begun long ago.
if (RANKS > 1 && program[3] != 0 && blockIdx.x == 0 && threadIdx.x == 0)
  *reinterpret_cast<unsigned*>(mail.numbers[mail.rank]) = mail.before + (unsigned)program[3];
