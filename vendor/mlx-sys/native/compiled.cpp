// Kernels for NVIDIA's GPUs that are compiled already: what mlx-c leaves out of MLX's interface.
#include <exception>
#include <string>
#include <tuple>
#include <vector>

#include "mlx/c/error.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"

using namespace mlx::core;

// As in src/lib.rs, which says what each is.
struct mlxr_launch {
  const char* name;
  const char* code;
  size_t code_size;
  mlx_vector_array inputs;
  const int* shapes;
  const size_t* ndims;
  const mlx_dtype* dtypes;
  size_t outputs;
  const int* numbers;
  size_t number_count;
  int grid[3];
  int block[3];
  int shared_memory;
};

extern "C" int mlxr_compiled_kernel(mlx_vector_array* result, const mlxr_launch* launch, mlx_stream stream) {
  try {
    std::vector<Shape> shapes;
    std::vector<Dtype> types;
    const int* shape = launch->shapes;
    for (size_t i = 0; i < launch->outputs; i++) {
      shapes.emplace_back(shape, shape + launch->ndims[i]);
      types.push_back(mlx_dtype_to_cpp(launch->dtypes[i]));
      shape += launch->ndims[i];
    }
    const int *grid = launch->grid, *block = launch->block;
    auto made = fast::precompiled_cuda_kernel(
        launch->name,
        std::string(launch->code, launch->code_size),
        mlx_vector_array_get_(launch->inputs),
        shapes,
        types,
        std::vector<fast::ScalarArg>(launch->numbers, launch->numbers + launch->number_count),
        {grid[0], grid[1], grid[2]},
        {block[0], block[1], block[2]},
        launch->shared_memory,
        std::nullopt,
        /* ensure_row_contiguous */ true,
        mlx_stream_get_(stream));
    mlx_vector_array_set_(*result, std::move(made));
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
