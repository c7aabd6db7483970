// AlphaDecay's assignment: a weight decay per module from its power-law exponent.
#pragma once
#include <schatten/core/fields.h>

#include <array>
#include <cstdint>
#include <vector>

namespace schatten {

/// lambda_i from alpha_i; lambda is the decay that untuned modules keep, n the number of tuned ones.
enum class AlphaMap {
  linear,         // [min alpha, max alpha] -> [low lambda, high lambda]
  sqrt,           // lambda n sqrt(alpha_i) / sum (sqrt(alpha) + 1e-8)
  log2,           // lambda n log2(alpha_i) / sum (log2(alpha) + 1e-8)
  layer_sigmoid,  // 2 lambda / (1 + exp(-4 z)), z = (alpha_i - mean) / (sd + 1e-8) among the modules of a layer
};
constexpr auto enum_names(AlphaMap) {
  return std::to_array<std::string_view>({"linear", "sqrt", "log2", "layer_sigmoid"});
}

/// Defaults are those of the published scripts; its class has low 0.5, high 1.5, its AdamW runs high 5.
struct AlphaDecayOptions {
  AlphaMap map = AlphaMap::linear;
  double low = 2.0 / 3, high = 3;
  bool skip_first = true, skip_last = true;
  int64_t minimum_eigenvalues = 50;
  void fields(auto&& visit) {
    visit("map", map, "linear, sqrt, log2, layer_sigmoid");
    visit("low", low, "linear: decay of the smallest alpha, times the base decay");
    visit("high", high, "linear: decay of the largest alpha, times the base decay");
    visit("skip_first", skip_first, "the first module keeps the base decay");
    visit("skip_last", skip_last, "the last module keeps the base decay");
    visit("minimum_eigenvalues", minimum_eigenvalues, "modules with fewer keep the base decay");
  }
};

struct AlphaModule {
  double alpha = 0;
  int64_t eigenvalues = 0;
  int64_t layer = 0;  // transformer block: layer_sigmoid compares within it
};
struct ModuleDecay {
  double weight_decay = 0;
  bool tuned = false;
};

/// The map alone: one decay per alpha. `layers` matters to layer_sigmoid only.
std::vector<double> decays_of_alphas(const std::vector<double>& alphas, const std::vector<int64_t>& layers,
                                     double weight_decay, const AlphaDecayOptions& options);

/// The linear modules of a model in its own order -> their decays. Untuned: the first and the last
/// where skipped, those with too few eigenvalues, those without a finite alpha.
/// Source   He et al. 2025, hed-ucas/AlphaDecay@23ce27c `WeightDecayUnbalance.py`.
/// Differs  linear: where all alphas are equal every module keeps the base decay (upstream: high).
/// Checked  parameters/alpha_decay_test (the authors' numbers).
std::vector<ModuleDecay> assign_decays(const std::vector<AlphaModule>& modules, double weight_decay,
                                       const AlphaDecayOptions& options = {});

}  // namespace schatten
