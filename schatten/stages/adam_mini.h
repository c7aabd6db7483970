// Adam-mini: Adam with one second moment for a whole block of entries.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Adam's direction with the mean of G^2 over a block in place of each entry's own.
///   m <- beta1 m + (1 - beta1) G,   v_B <- beta2 v_B + (1 - beta2) mean_B(G^2)
///   U  = (m / (1 - beta1^t)) / (sqrt(v_B / (1 - beta2^t)) + eps)                   [.., m, n]
/// Blocks    query, key: the rows of a head; other matrices (value, output, feed-forward, embedding, head): a row;
///           gains and convolution filters: the whole parameter; biases: an entry (plain Adam).
/// State     exp_avg [m, n], exp_avg_sq [blocks, 1] (biases: [m, n]).
/// Locality  matrix.
/// Source    Zhang et al. 2024, arXiv:2406.16793; code zyushun/Adam-mini@402aadf.
/// Checked   parity/adam_mini_*, identity/adam_mini_*, law/*.
struct ScaleByAdamMini {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment, in [0, 1)");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
    visit("eps", eps, "added to the root");
  }
  std::string name() const { return "scale_by_adam_mini"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_adam_mini(const ScaleByAdamMini& options);

/// `rows` rows in blocks of `size` each.
struct RowBlocks {
  int64_t rows = 0, size = 1;
};
/// How the rows of a parameter fall into blocks, from the first row on; empty: every entry is a block.
/// A matrix of other than the parameter's own rows (a projected one) has a block per row.
std::vector<RowBlocks> adam_mini_blocks(const ParameterInfo& parameter, int64_t rows);

}  // namespace schatten
