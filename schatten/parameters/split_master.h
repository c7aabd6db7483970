// A float32 master kept as a bfloat16 weight and the 16 bits below it.
#pragma once
#include <schatten/core/tensor.h>

namespace schatten {

/// weight: the upper half (truncated, not rounded: with rounding the halves would not join). mantissa: the lower
/// half, int16 or uint16, bits only. Together 4 bytes per parameter, as a float32 master alone; the model's own
/// weight is half of them.
struct SplitMaster {
  Tensor weight, mantissa;
};

/// master bits = (weight bits << 16) | mantissa bits; float32, contiguous.
/// Source   KellerJordan/modded-nanogpt@f411b3d.
/// Checked  parameters/split_master_test (bits of the authors' update).
Tensor join_master(const SplitMaster& parts);

/// The two halves of float32 of any shape.
SplitMaster split_master(const Tensor& master, at::ScalarType mantissa_dtype = at::kShort);

}  // namespace schatten
