// The one tensor header that public headers include (ATen/ATen.h costs four times as much to parse).
#pragma once
#include <ATen/core/Tensor.h>

namespace schatten {
using at::Tensor;
}
