// Golden cases that are no optimizer runs: single maps on matrices.
#pragma once
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>
#include <schatten/stages/spectral.h>
#include <schatten/stages/spectral_power.h>

#include <functional>
#include <optional>
#include <string>

namespace schatten::testing {

using Map = std::function<Tensor(const Tensor&)>;

/// `compute`: dtype of the spectral part; cases recorded as shipped have bfloat16 there.
std::optional<Map> claim_map(const std::string& optimizer, const Value& hyper, ComputeDtype compute);

}  // namespace schatten::testing
