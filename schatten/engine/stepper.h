// Stepper: recipes and all that is decided about them once. It owns no parameter and no state, so whoever keeps those
// (schatten::Optimizer, torch's dispatcher on behalf of Python) takes the same step.
#pragma once
#include <schatten/engine/fused_matrix.h>
#include <schatten/engine/options.h>

#include <string>
#include <vector>

namespace schatten {

/// One parameter and what is kept of it.
struct Slot {
  Parameter parameter;
  Tensor grad{};  // this step's; undefined: nothing happens
  size_t route = 0;
  int64_t steps = 0;
  State state{};
  std::optional<double> weight_decay{};  // a controller's, in place of the recipe's
};

/// Refuses parameters that no step can work on: sparse, complex, strided, of another shape than stated.
void check_parameter(const Parameter& parameter);

/// How much of W one step of this recipe needs to see at once.
Locality locality_of(const Recipe& recipe);

class Stepper {
 public:
  /// Refuses what check_recipe refuses.
  explicit Stepper(std::vector<Route> routes, OptimizerOptions options = {});

  const std::vector<Route>& routes() const { return routes_; }
  const OptimizerOptions& options() const { return options_; }
  const Recipe& recipe(const Slot& s) const { return routes_[s.route].recipe; }
  /// Of state and arithmetic.
  at::ScalarType dtype(const Slot& s) const;
  Bucket bucket(const Slot& s) const;
  /// As the recipe's stages declare it, zero.
  State fresh_state(const Slot& s) const;
  /// In one batch with others of its kind, if there are any.
  bool batched(const Slot& s) const;
  /// What steps it in place of the stages; null: nothing.
  const FusedTwin* twin(const Slot& s) const;
  const MatrixTwin* matrix_twin(const Slot& s) const;
  /// "fused adam, avx512"; "" for stage by stage.
  std::string kernel(size_t route) const;

  /// One update of every slot that has a gradient; `rates` are the learning rates of the routes.
  void step(std::vector<Slot>& slots, const std::vector<double>& rates, const Watch& watch = {}) const;
  /// Hands gradients to the stages that want a probe (Traits::probe); steps nothing.
  void probe(std::vector<Slot>& slots) const;
  /// What the recipes' controllers want to be told ("largest_logits").
  std::vector<std::string> wants() const;
  /// Refuses, before anything is written, a step whose controllers miss an observation.
  void check_observations(const Observations& seen) const;
  /// Behind a step: what controllers do to all parameters of their recipe together.
  void control(std::vector<Slot>& slots, const Observations& seen) const;

 private:
  std::vector<Route> routes_;
  OptimizerOptions options_;
  std::vector<std::optional<FusedTwin>> twins_;          // of each route
  std::vector<std::optional<MatrixTwin>> matrix_twins_;  // likewise
};

}  // namespace schatten
