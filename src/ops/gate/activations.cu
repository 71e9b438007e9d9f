namespace mlxr {

// As `crate::kernels::gate` has them; what is not a number stays.
template <int ACTIVATION>
__device__ __forceinline__ float gated(float gate, float up, float limit) {
  if constexpr (ACTIVATION == 0) return gate / (1.0f + __expf(-gate)) * up;
  if constexpr (ACTIVATION == 1) {
    float inner = 0.7978845608f * gate * (1.0f + 0.044715f * gate * gate);
    return 0.5f * gate * (1.0f + tanhf(inner)) * up;
  }
  gate = gate > limit ? limit : gate;
  up = up > limit ? limit : up < -limit ? -limit : up;
  return gate / (1.0f + __expf(-1.702f * gate)) * (up + 1.0f);
}

} // namespace mlxr
