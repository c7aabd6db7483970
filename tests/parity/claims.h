// Which recipe a golden case is about. A case that nothing claims is counted and printed.
#pragma once
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>
#include <schatten/recipe/recipe.h>
#include <schatten/stages/spectral.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace schatten::testing {

/// How to run a trajectory. Rates are multiplied by the case's lr of each step.
struct TrajectoryClaim {
  std::vector<Route> routes;
  bool missing_is_zero = false;  // the authors' code steps on a zero gradient; the harness feeds it
};

using Map = std::function<Tensor(const Tensor&)>;

/// `compute`: dtype of the spectral part; cases recorded as shipped have bfloat16 there.
std::optional<TrajectoryClaim> claim_trajectory(const std::string& optimizer, const Value& hyper, ComputeDtype compute);
std::optional<Map> claim_map(const std::string& optimizer, const Value& hyper, ComputeDtype compute);

}  // namespace schatten::testing
