// Which instructions a run's kernels use, and what they make of its matrices: decided once, written down, kept.
#pragma once
#include <schatten/recipe/recipe.h>
#include <schatten/train/config.h>

#include <optional>
#include <string>
#include <vector>

namespace schatten {

struct ChosenKernels {
  Isa isa;
  std::string note{};  // what the user should know of it
};
/// What the config names; UsageError where `best`, the CPU's, is less. For `auto` what the checkpoint to go on from was
/// written with (`saved`), as far as it is within `here`, what CPU and SCHATTEN_ISA allow; without a checkpoint `here`.
ChosenKernels choose_kernels(KernelChoice wanted, const std::optional<std::string>& saved, Isa here = this_isa(),
                             Isa best = best_isa());

/// {"hidden_matrix 512x1376": "quintic Newton-Schulz, 5 steps: gram, bfloat16, restart before step 2 and 4", ...}: what
/// the stages of each route make of each shape (Stage::decided). A pure function of its arguments and this version.
Value kernel_plans(const std::vector<Route>& routes, const std::vector<ParameterInfo>& parameters,
                   at::ScalarType parameter_dtype, Isa isa);
/// One sentence on what differs between those of a checkpoint and those of now; "" for nothing.
std::string changed_plans(const Value& saved, const Value& now);

}  // namespace schatten
