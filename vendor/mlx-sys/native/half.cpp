// The 16-bit accessors that mlx-c's headers leave out where the compiler has no such C types
// (x86). mlx-rs calls them on every platform. Values pass as their bits.
#include "mlx/c/half.h"

#ifndef HAS_BFLOAT16
#include <cstdint>
#include <cstring>

#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

namespace {

template <class Half>
int item(uint16_t* result, mlx_array array) {
  try {
    auto value = mlx_array_get_(array).item<Half>();
    std::memcpy(result, &value, sizeof(value));
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}

template <class Half>
const uint16_t* data(mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).data<Half>());
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return nullptr;
  }
}

} // namespace

extern "C" int mlx_array_item_float16(uint16_t* result, mlx_array array) {
  return item<mlx::core::float16_t>(result, array);
}
extern "C" int mlx_array_item_bfloat16(uint16_t* result, mlx_array array) {
  return item<mlx::core::bfloat16_t>(result, array);
}
extern "C" const uint16_t* mlx_array_data_float16(mlx_array array) {
  return data<mlx::core::float16_t>(array);
}
extern "C" const uint16_t* mlx_array_data_bfloat16(mlx_array array) {
  return data<mlx::core::bfloat16_t>(array);
}
#endif
