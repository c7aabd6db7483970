// A bracket: any stage in the eigenbasis of the gradient's second moments.
#pragma once
#include <schatten/linalg/multiply.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Runs `inner` in the slowly turning eigenbasis of Shampoo's statistics, one basis per tensor dimension i.
///   t = 1   GG_i <- (1 - beta) G_(i) G_(i)^T,  Q_i = its eigenvectors, largest first; no update, not even decay
///   t > 1   G' = G with Q_i^T on dimension i,  U' = inner(G', step t - 1),  U = U' with Q_i on dimension i
///           GG_i <- beta GG_i + (1 - beta) G_(i) G_(i)^T
///           every k inner steps: columns of Q_i sorted by diag(Q_i^T GG_i Q_i), then Q_i <- Q factor of GG_i Q_i
/// for a matrix: G' = Q_0^T G Q_1, U = Q_0 U' Q_1^T. Convolution filters keep their own dimensions here.
/// When the basis turns, inner slots turn with it (momentum_buffer, exp_avg) or, where they hold second moments, follow
/// the sorting of the columns only.
/// State     GG<i>, Q<i> [d_i, d_i] for every dimension of at most `max_dim` entries; inner/..: the inner stage's.
/// Locality  matrix.
/// Source    SOAP: Vyas et al. 2024, arXiv:2409.11321, code nikhilvyas/SOAP@a1e5535.
/// Note      the first GG of a longer side is rank-deficient: its null space has a basis only by LAPACK's rounding, and
///           results depend on it. An inner stage without a slot of second moments (Lion's) works, too.
/// Checked   parity/soap_*, identity/soap_*, law/*.
struct InEigenbasis {
  double beta = 0.95;
  int every = 10;
  int64_t max_dim = 10000;
  bool merge_dims = false;
  bool precondition_1d = false;
  Products products = Products::automatic;
  void fields(auto&& visit) {
    visit("beta", beta, "decay of the statistics, in [0, 1)");
    visit("every", every, "steps between two turns of the basis");
    visit("max_dim", max_dim, "dimensions longer than this keep their axes");
    visit("merge_dims", merge_dims, "take dimensions of filters together as long as they stay within max_dim");
    visit("precondition_1d", precondition_1d, "vectors, too");
    visit("products", products, kProductsHelp);
  }
};
Stage in_eigenbasis(const InEigenbasis& options, Stage inner);

/// U = sqrt(1 - beta2^t) / (1 - beta1^t) X: Adam's bias corrections alone.
/// State none. Locality elementwise. Checked parity/soap_square_normalized, cosmos_vec_adam, law/*.
struct AdamCorrection {
  double beta1 = 0.9, beta2 = 0.999;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment, in [0, 1)");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
  }
  double factor(const Step& step) const;
  std::string name() const { return "adam_correction"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage adam_correction(const AdamCorrection& options);

}  // namespace schatten
