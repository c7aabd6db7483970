// The one tensor header that public headers include (ATen/ATen.h costs four times as much to parse).
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace schatten {
using at::Tensor;

/// As Python and configs spell it: "float32", "bfloat16".
std::string dtype_name(at::ScalarType dtype);
}  // namespace schatten
