// Replay: how the authors' recorded runs are run with our recipe. Parity tests find it through the registry, so that a
// paper's file says everything about the paper; converters of foreign configs go by the same translation.
#pragma once
#include <schatten/core/value.h>
#include <schatten/recipe/recipe.h>
#include <schatten/stages/spectral.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

/// One of our slots beside the authors' name for it.
struct SlotAlias {
  enum Compare {
    equal,    // entry by entry
    columns,  // up to the sign of each column: bases
    span,     // as P P^T: bases whose columns are arbitrary, too
  };
  std::string theirs;  // "momentum", as in state.momentum.000
  std::string ours;    // ends of state paths: "momentum_buffer", "slow/exp_avg"
  Compare compare = equal;
  double factor = 1;  // theirs = factor * ours
};

/// A recorded tensor that is an input, and the slot that it is written to.
struct SlotInput {
  std::string theirs;  // "Q.init", "state.Q0.000", or with one * for the step: "projector.P.*"
  std::string ours;
  bool after = false;  // written after the step of that number, not before it (for *.init: before the first)
  bool transposed = false;
};

struct Replay {
  std::vector<Route> routes;     // rates are multiplied by the recorded lr of each step
  bool missing_is_zero = false;  // the authors' code steps on a zero gradient; the harness feeds it
  std::vector<SlotAlias> slots{};
  std::vector<SlotInput> inputs{};
  /// What names do not say: heads, projections.
  std::function<void(ParameterInfo&)> describe{};
  /// Quirks of decay: replaces the recipe's lambda before each step (t from 0); nullopt keeps it.
  std::function<std::optional<double>(const ParameterInfo&, int64_t t, bool has_gradient)> weight_decay{};
};

/// `optimizer`: the name in the recording's metadata. `compute`: dtype of the spectral part (as shipped: bfloat16).
struct Published {
  std::string optimizer;
  std::function<Replay(const Value& hyper, ComputeDtype compute)> replay;
};

// --- reading the authors' hyper-parameters ---

inline double beta(const Value& hyper, size_t i, const char* key = "betas") {
  return hyper.at(key).as_array().at(i).as_real();
}
inline double real(const Value& hyper, const char* key) { return hyper.at(key).as_real(); }
inline int64_t integer(const Value& hyper, const char* key) { return hyper.at(key).as_integer(); }
inline bool flag(const Value& hyper, const char* key) { return hyper.at(key).as_bool(); }

/// `aux` for the parameters that the case lists under `names` (at `factor` of the rate), then `main` for the rest.
std::vector<Route> with_auxiliary(const Value& hyper, const char* names, const Recipe& aux, double factor,
                                  const Recipe& main);
/// The auxiliary Adam of the Muon family (aux_params, aux_lr_factor, aux_betas, aux_eps; decay as the rest).
std::vector<Route> with_auxiliary_adam(const Value& hyper, const Recipe& main);
/// ns_steps, eps, eps_mode of Jordan's code and its heirs.
Orthogonalize polar_of(const Value& hyper, QuinticRounding rounding, ComputeDtype compute);

}  // namespace schatten
