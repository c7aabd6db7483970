// Rotary positions, as LLaMA and nGPT share them.
#pragma once
#include <schatten/models/language_model.h>

namespace schatten {

/// Rotary positions: pair j of a head's channels turns by position * base^(-2j / head_dim).
/// Source   LLaMA as transformers has it (half); NVIDIA/ngpt@ed19eb23 (official, which is not a rotation).
/// Checked  models/golden_test, models/ngpt_golden_test (all three forms).
class Rotary {
 public:
  Rotary(const Architecture& architecture, at::ScalarType dtype);
  Rotary first(int64_t length) const;
  /// [B, T, heads, head_dim], T the length
  Tensor turn(const Tensor& x) const;

 private:
  Rotary(RotaryForm form, Tensor cos, Tensor sin);

  RotaryForm form_;
  Tensor cos_, sin_;  // [T, 1, head_dim / 2]: they broadcast over batch and heads
};

}  // namespace schatten
