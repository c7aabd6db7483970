// What the parts of Optimizer share; not public.
#pragma once
#include <schatten/engine/fused_matrix.h>
#include <schatten/engine/optimizer.h>

namespace schatten {

/// One parameter and what the optimizer keeps of it.
struct Slot {
  Parameter parameter;
  size_t route = 0;
  int64_t steps = 0;
  State state;
  std::optional<double> weight_decay;  // a controller's, in place of the recipe's
};

inline at::ScalarType state_dtype(const OptimizerOptions& options, at::ScalarType parameter) {
  return options.state_dtype.value_or(at_least_float32(parameter));
}

/// How much of W one step of this recipe needs to see at once.
inline Locality locality_of(const Recipe& recipe) {
  const Locality direction = recipe.direction.traits().locality;
  return recipe.retract.active() ? std::max(direction, Locality::row) : direction;
}

struct Optimizer::Impl {
  std::vector<Route> routes;
  OptimizerOptions options;
  std::vector<std::optional<FusedTwin>> twins;          // of each route
  std::vector<std::optional<MatrixTwin>> matrix_twins;  // likewise
  std::vector<Slot> slots;
  Observations seen;  // since the last step

  const Recipe& recipe(const Slot& s) const { return routes[s.route].recipe; }
  at::ScalarType dtype(const Slot& s) const { return state_dtype(options, s.parameter.tensor.scalar_type()); }
  /// Null: stage by stage.
  const FusedTwin* twin(const Slot& s) const {
    const auto& found = twins[s.route];
    return found && fits_fused(s.parameter.tensor, dtype(s)) ? &*found : nullptr;
  }
  const MatrixTwin* matrix_twin(const Slot& s) const {
    const auto& found = matrix_twins[s.route];
    return found && fits_fused(s.parameter.tensor, dtype(s)) ? &*found : nullptr;
  }
  /// In one batch with others of its kind (update_impl.h), if there are any.
  bool batched(const Slot& s) const {
    const Traits traits = recipe(s).direction.traits();
    return options.batched.value_or(!s.parameter.tensor.is_cpu()) && traits.batches && !traits.draws;
  }
  Bucket bucket(const Slot& s) const {
    return bucket_of(s.parameter.info, dtype(s), s.parameter.tensor.device(), Rng(options.seed));
  }
  template <class Visit>
  void each_state(Visit&& visit) {
    for (Slot& s : slots) s.state.each(visit, s.parameter.info.name + "/");
  }
};

}  // namespace schatten
