extern __shared__ uint4 memory[];
__shared__ mlxr::Shared shared;
__shared__ mlxr::Step step;
if (threadIdx.x == 0) {
  step.tokens = tokens;
  step.caches = reinterpret_cast<const long long*>(caches);
  step.places = places;
  step.scratch = const_cast<float*>(scratch);
  step.barrier = const_cast<unsigned*>(barrier);
  step.logits = logits;
  step.rows = sizes[0];
  step.splits = sizes[1];
  // What comes before the first instruction says how many layers there are.
  step.layers = (int)program[1];
}
if (threadIdx.x < sizes[0]) step.positions[threadIdx.x] = positions[threadIdx.x];
mlxr::run<ROWS, VARIANTS, SCALES, WIDTH, RATIO, CACHE>(reinterpret_cast<const long long*>(program), step, shared,
                                                       reinterpret_cast<char*>(memory));
