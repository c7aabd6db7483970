// What a step may be told beside its recipes, and what it tells those who watch.
#pragma once
#include <schatten/core/parameter_info.h>
#include <schatten/kernels/isa.h>

#include <functional>
#include <optional>

namespace schatten {

struct OptimizerOptions {
  /// Dtype of state and of the update's arithmetic. None: float64 for float64 parameters, else float32.
  std::optional<at::ScalarType> state_dtype{};
  uint64_t seed = 0;  // of stages that draw
  /// Recipes are stepped by their fused twins (engine/fused.h, fused_matrix.h) where there is one; false: stage by stage.
  bool fused = true;
  /// Parameters of a kind are stepped as one batch [b, m, n]. None: on every device but the CPU. Recipes whose stages
  /// cannot (Traits::batches, draws) go parameter by parameter. Needs room for a copy of a batch's gradients and state.
  std::optional<bool> batched{};
  /// Instructions that the kernels use.
  Isa isa = this_isa();
};

/// What a step did to one parameter, for those who watch.
struct UpdateView {
  const ParameterInfo& parameter;
  const Tensor& update;  // matrix view, before lr
  double lr;
};
/// Called once per watched parameter (from worker threads, one call at a time).
using Watch = std::function<void(const UpdateView&)>;

}  // namespace schatten
