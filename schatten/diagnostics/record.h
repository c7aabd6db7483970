// One line of spectra.jsonl: what a matrix, its momentum and its update look like at one step.
#pragma once
#include <schatten/core/parameter_info.h>
#include <schatten/diagnostics/spectra.h>

namespace schatten {

struct Seen {
  Tensor weight;      // [m, n]
  Tensor momentum{};  // undefined: left out
  Tensor update{};    // undefined: left out
  double lr = 1;      // what the update was multiplied with
};
/// {"step", "name", "block", "shape", "weight", "momentum", "update", "update_ratio", "alpha", "alpha_shuffled"}; the seed
/// of the shuffled copy is mixed with the parameter's index.
Value spectra_record(const ParameterInfo& info, int64_t step, const Seen& seen, uint64_t seed);

}  // namespace schatten
