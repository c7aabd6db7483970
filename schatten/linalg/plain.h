// A tensor's memory, as the kernels see it.
#pragma once
#include <schatten/core/tensor.h>
#include <schatten/kernels/products.h>

namespace schatten {

/// Of one [m, n] on the CPU, float32 or bfloat16, any strides. It lives as long as the tensor does.
inline Plain plain(const Tensor& t) {
  Plain p{.row_stride = t.stride(0), .col_stride = t.stride(1)};
  if (t.scalar_type() == at::kFloat) p.f32 = t.data_ptr<float>();
  else p.bf16 = reinterpret_cast<uint16_t*>(t.data_ptr<at::BFloat16>());
  return p;
}

}  // namespace schatten
