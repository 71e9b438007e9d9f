// What stands before every kernel. No header of CUDA's is needed, so none must be found.
#define INFINITY __int_as_float(0x7f800000)

namespace mlxr {

struct Bfloat16 {
  unsigned short bits;
  Bfloat16() = default;
  __device__ __forceinline__ explicit Bfloat16(float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

struct Float16 {
  unsigned short bits;
  Float16() = default;
  __device__ __forceinline__ explicit Float16(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ __forceinline__ operator float() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
};

// What an array's address is an address of.
template <typename T> struct Pointed;
template <typename T> struct Pointed<T*> { using Type = T; };
template <typename T> struct Pointed<const T*> { using Type = T; };

} // namespace mlxr
