// A graph node whose evaluation on the CPU calls a C function with the buffers of its inputs and
// outputs: how kernels written in Rust stay ordinary nodes of MLX's graph.
#include <cstring>
#include <memory>
#include <string>
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

// A buffer with its layout. `strides` count elements.
typedef struct mlxr_host_view_ {
  void* data;
  const int* shape;
  const int64_t* strides;
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
} mlxr_host_output;
}

namespace {

class HostOp : public Primitive {
 public:
  HostOp(Stream stream, std::string name, mlxr_host_function function, std::shared_ptr<void> context)
      : Primitive(stream), name_(std::move(name)), function_(function), context_(std::move(context)) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    auto& encoder = cpu::get_command_encoder(stream());
    // Weak copies hold the data and not the graph, as MLX's own kernels do.
    std::vector<array> sources;
    std::vector<array> results;
    for (const auto& input : inputs) {
      encoder.set_input_array(input);
      sources.push_back(array::unsafe_weak_copy(input));
    }
    for (auto& output : outputs) {
      output.set_data(allocator::malloc(output.nbytes()));
      encoder.set_output_array(output);
      results.push_back(array::unsafe_weak_copy(output));
    }
    encoder.dispatch([function = function_,
                      context = context_,
                      sources = std::move(sources),
                      results = std::move(results)]() mutable {
      auto in = views(sources);
      auto out = views(results);
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
  static std::vector<mlxr_host_view> views(std::vector<array>& arrays) {
    std::vector<mlxr_host_view> result;
    for (auto& a : arrays) {
      result.push_back(
          {a.data<void>(), a.shape().data(), a.strides().data(), a.ndim(), mlx_dtype_to_c(a.dtype())});
    }
    return result;
  }

  std::string name_;
  mlxr_host_function function_;
  std::shared_ptr<void> context_;
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
    auto primitive = std::make_shared<HostOp>(stream, name, function, std::move(held));
    std::vector<Shape> shapes;
    std::vector<Dtype> dtypes;
    for (size_t i = 0; i < output_count; i++) {
      shapes.emplace_back(outputs[i].shape, outputs[i].shape + outputs[i].ndim);
      dtypes.push_back(mlx_dtype_to_cpp(outputs[i].dtype));
    }
    for (auto& a : array::make_arrays(std::move(shapes), dtypes, primitive, mlx_vector_array_get_(inputs))) {
      mlx_vector_array_get_(*results).push_back(std::move(a));
    }
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
