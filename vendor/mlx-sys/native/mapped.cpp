// Arrays over memory that MLX did not allocate, without a copy wherever the backend can.
#include <cstring>
#include <memory>
#include <utility>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/mlx.h"

using namespace mlx::core;

namespace {

// The CPU backend's buffers are blocks of the heap with their size in front of the data; a foreign
// pointer can pose as one. Other backends' buffers are objects. Found out by looking at one.
bool buffers_are_heap_blocks() {
  static const bool answer = [] {
    auto buffer = allocator::malloc(64);
    bool heap = static_cast<char*>(buffer.raw_ptr()) ==
        static_cast<char*>(buffer.ptr()) + sizeof(size_t);
    allocator::free(buffer);
    return heap;
  }();
  return answer;
}

} // namespace

// `data` holds the elements in row-major order; `release(keep)` is called once they are no longer
// used. On the CPU the eight bytes in front of `data` must be readable.
extern "C" int mlxr_array_over(
    mlx_array* result,
    void* data,
    const int* shape,
    size_t ndim,
    mlx_dtype dtype,
    void* keep,
    void (*release)(void*)) {
  std::shared_ptr<void> held(keep, release);
  try {
    Shape dimensions(shape, shape + ndim);
    auto type = mlx_dtype_to_cpp(dtype);
    if (buffers_are_heap_blocks()) {
      array over(dimensions, type, nullptr, {});
      over.set_data(
          allocator::Buffer(static_cast<char*>(data) - sizeof(size_t)),
          [held](allocator::Buffer) {});
      over.set_status(array::Status::available);
      mlx_array_set_(*result, over);
    } else {
      mlx_array_set_(*result, array(data, dimensions, type, [held](void*) {}));
    }
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
