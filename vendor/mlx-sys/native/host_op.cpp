// A graph node whose evaluation on the CPU calls a C function with the buffers of its inputs and
// outputs: how kernels written in Rust stay ordinary nodes of MLX's graph.
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/mlx.h"
#include "mlx/c/vector.h"
#include "mlx/primitives.h"
#include "mlx/utils.h"

using namespace mlx::core;

extern "C" {

// A buffer in row-major order.
typedef struct mlxr_host_view_ {
  void* data;
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
} mlxr_host_view;

typedef void (*mlxr_host_function)(
    void* context,
    const mlxr_host_view* inputs,
    size_t input_count,
    const mlxr_host_view* outputs,
    size_t output_count);

typedef struct mlxr_host_output_ {
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
  // The input whose buffer it takes over, or -1.
  int takes_over;
} mlxr_host_output;
}

namespace {

// The elements of an array that lies in any order, in row-major order.
std::vector<char> gathered(const array& a) {
  auto size = a.itemsize();
  std::vector<char> out(a.size() * size);
  std::vector<int> at(a.ndim(), 0);
  auto from = a.data<char>();
  int64_t offset = 0;
  for (size_t i = 0; i < a.size(); i++) {
    std::memcpy(out.data() + i * size, from + offset * int64_t(size), size);
    for (int axis = int(a.ndim()) - 1; axis >= 0; axis--) {
      offset += a.strides(axis);
      if (++at[axis] < a.shape(axis)) {
        break;
      }
      offset -= a.strides(axis) * a.shape(axis);
      at[axis] = 0;
    }
  }
  return out;
}

class HostOp : public Primitive {
 public:
  HostOp(
      Stream stream,
      std::string name,
      mlxr_host_function function,
      std::shared_ptr<void> context,
      std::vector<int> takes_over)
      : Primitive(stream),
        name_(std::move(name)),
        function_(function),
        context_(std::move(context)),
        takes_over_(std::move(takes_over)) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    auto& encoder = cpu::get_command_encoder(stream());
    for (size_t i = 0; i < outputs.size(); i++) {
      auto& output = outputs[i];
      if (takes_over_[i] < 0) {
        output.set_data(allocator::malloc(output.nbytes()));
        continue;
      }
      // MLX's own test for this, is_donatable, fails while an earlier step is still queued, since the
      // queue holds its buffers.
      auto& input = inputs[takes_over_[i]];
      if (!input.flags().row_contiguous || input.nbytes() != output.nbytes()) {
        throw std::runtime_error("[" + name_ + "] takes over a buffer that does not fit");
      }
      output.copy_shared_buffer(input);
    }
    // Weak copies hold the data and not the graph, as MLX's own kernels do.
    std::vector<array> sources;
    std::vector<array> results;
    for (const auto& input : inputs) {
      encoder.set_input_array(input);
      sources.push_back(array::unsafe_weak_copy(input));
    }
    for (auto& output : outputs) {
      encoder.set_output_array(output);
      results.push_back(array::unsafe_weak_copy(output));
    }
    encoder.dispatch([function = function_,
                      context = context_,
                      sources = std::move(sources),
                      results = std::move(results)]() mutable {
      std::vector<std::vector<char>> gathers;
      std::vector<mlxr_host_view> in;
      for (auto& a : sources) {
        in.push_back(view(a));
        if (a.size() > 0 && !a.flags().row_contiguous) {
          gathers.push_back(gathered(a));
          in.back().data = gathers.back().data();
        }
      }
      std::vector<mlxr_host_view> out;
      for (auto& a : results) {
        out.push_back(view(a));
      }
      function(context.get(), in.data(), in.size(), out.data(), out.size());
    });
  }

  void eval_gpu(const std::vector<array>&, std::vector<array>&) override {
    throw std::runtime_error("[" + name_ + "] runs on the CPU only");
  }

  const char* name() const override {
    return name_.c_str();
  }

 private:
  static mlxr_host_view view(array& a) {
    return {a.data<void>(), a.shape().data(), a.ndim(), mlx_dtype_to_c(a.dtype())};
  }

  std::string name_;
  mlxr_host_function function_;
  std::shared_ptr<void> context_;
  std::vector<int> takes_over_;
};

} // namespace

// Appends the outputs to `results`. `drop` frees `context` with the last node that holds it; it is
// called also when this fails.
extern "C" int mlxr_host_op(
    mlx_vector_array* results,
    const char* name,
    const mlx_vector_array inputs,
    const mlxr_host_output* outputs,
    size_t output_count,
    mlxr_host_function function,
    void* context,
    void (*drop)(void*)) {
  std::shared_ptr<void> held(context, drop);
  try {
    auto stream = default_stream(Device::cpu);
    std::vector<Shape> shapes;
    std::vector<Dtype> dtypes;
    std::vector<int> takes_over;
    for (size_t i = 0; i < output_count; i++) {
      takes_over.push_back(outputs[i].takes_over);
      shapes.emplace_back(outputs[i].shape, outputs[i].shape + outputs[i].ndim);
      dtypes.push_back(mlx_dtype_to_cpp(outputs[i].dtype));
    }
    auto primitive =
        std::make_shared<HostOp>(stream, name, function, std::move(held), std::move(takes_over));
    for (auto& a : array::make_arrays(std::move(shapes), dtypes, primitive, mlx_vector_array_get_(inputs))) {
      mlx_vector_array_get_(*results).push_back(std::move(a));
    }
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
