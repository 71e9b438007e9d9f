// How much there is to do for arrays: what MLX does not tell.
#include <exception>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mlx/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

using namespace mlx::core;

namespace {

// What gives another view of memory that is there.
bool launches_nothing(std::string_view name) {
  static const std::unordered_set<std::string_view> views{
      "AsStrided", "Broadcast", "BroadcastAxes", "Copy", "Depends", "ExpandDims", "Flatten", "Reshape",
      "Slice", "Split", "Squeeze", "StopGradient", "Transpose", "Unflatten", "View"};
  return views.count(name) > 0;
}

} // namespace

// As in src/lib.rs.
extern "C" int mlxr_count_operations(size_t* result, mlx_vector_array arrays) {
  try {
    std::vector<array> open = mlx_vector_array_get_(arrays);
    std::unordered_set<const Primitive*> known;
    size_t count = 0;
    while (!open.empty()) {
      array next = std::move(open.back());
      open.pop_back();
      if (next.status() != array::Status::unscheduled || !next.has_primitive()) continue;
      // Of several results of an operation each has it.
      if (!known.insert(&next.primitive()).second) continue;
      if (!launches_nothing(next.primitive().name())) count++;
      open.insert(open.end(), next.inputs().begin(), next.inputs().end());
    }
    *result = count;
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
