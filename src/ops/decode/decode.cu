extern __shared__ uint4 memory[];
mlxr::Step step{reinterpret_cast<const long long*>(program), tokens, positions,
                reinterpret_cast<const long long*>(caches), places, const_cast<float*>(scratch),
                const_cast<unsigned*>(barrier), logits, sizes[0], sizes[1]};
mlxr::run<ROWS, VARIANTS, SCALES, WIDTH, RATIO, CACHE>(step, reinterpret_cast<char*>(memory));
