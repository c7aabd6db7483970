// The one tensor header that public headers include (ATen/ATen.h costs four times as much to parse).
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace schatten {
using at::Tensor;

/// As Python and configs spell it: "float32", "bfloat16".
std::string dtype_name(at::ScalarType dtype);
/// float64 stays, everything else is computed in float32: what LAPACK, norms and statistics need.
inline at::ScalarType at_least_float32(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

/// MKL's vector functions (root, logarithm, ...) choose their kernels at the first call. Threads that make it at once may
/// get, for that call, the kernel of lower accuracy: roots that are off by 1e-4, seen in one process of a hundred. Whoever
/// is about to work in parallel or wants the same bits again calls this first; it does something once.
void choose_vector_kernels();
}  // namespace schatten
