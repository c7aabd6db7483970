#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/shampoo.h>

namespace schatten {

struct ShampooOptions {
  ShampooSides sides = ShampooSides::both;
  Accumulation accumulation = Accumulation::ema;
  double beta2 = 0.95;
  double eps = 1e-12;
  int every = 10;
  int64_t max_dim = 10000;
  ComputeDtype compute = ComputeDtype::automatic;
  Products products = Products::automatic;
  double momentum = 0.9;
  ShapeScale shape = ShapeScale::none;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("sides", sides, "both (powers -1/4), smaller (one-sided, -1/2)");
    visit("accumulation", accumulation, "sum (Gupta et al.), ema");
    visit("beta2", beta2, "ema: decay of the statistics, in [0, 1)");
    visit("eps", eps, "added to the eigenvalues of the statistics");
    visit("every", every, "steps between two renewals of the roots");
    visit("max_dim", max_dim, "longer sides are left alone");
    visit("compute", compute, "of the eigenvalues: auto (the statistics' own dtype), float32, float64");
    visit("products", products, kProductsHelp);
    visit("momentum", momentum, "average over preconditioned gradients, in [0, 1)");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Shampoo: gradients whitened from both sides by what rows and columns have been.
///   L <- beta2 L + (1 - beta2) G G^T,  R <- beta2 R + (1 - beta2) G^T G      [m, m], [n, n]
///   X  = (L + eps I)^(-1/4) G (R + eps I)^(-1/4)                             [m, n]
///   M <- mu M + (1 - mu) X,  W <- (1 - lr lambda) W - lr c(m, n) M
/// Variants  accumulation = "sum": Adagrad's, as in the paper; sides = "smaller": one factor of power -1/2.
/// State     momentum_buffer [m, n]; L, R and their roots.
/// Locality  matrix.
/// Source    Gupta et al. 2018, arXiv:1802.09568 (sum, no bias correction, eps = L's start); no code of the authors.
/// Differs   ema with bias correction by default; convolution filters flattened; see shampoo_precondition.
/// Checked   identity/shampoo_*, law/*.
inline Recipe shampoo(const ShampooOptions& o) {
  check_share("shampoo", "momentum", o.momentum);
  std::vector<Stage> stages{shampoo_precondition({.sides = o.sides,
                                                  .accumulation = o.accumulation,
                                                  .beta = o.beta2,
                                                  .eps = o.eps,
                                                  .every = o.every,
                                                  .max_dim = o.max_dim,
                                                  .compute = o.compute,
                                                  .products = o.products})};
  if (o.momentum > 0) stages.push_back(ema({.beta = o.momentum}));
  stages.push_back(scale_by_shape({o.shape}));
  return {.name = "shampoo", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

inline RecipeInfo shampoo_info() {
  return recipe_row<ShampooOptions>(
      {.name = "shampoo",
       .group = Group::second_order,
       .summary = "gradients whitened by second moments of rows and columns",
       .formula = "L, R: averages of G G^T, G^T G;  X = L^(-1/4) G R^(-1/4);  M <- mu M + (1 - mu) X;  U = M",
       .paper = "Gupta et al. 2018, arXiv:1802.09568",
       .state = "mn + 2m^2 + 2n^2",
       .tune = "lr (0.005 to 0.05), beta2, every"},
      shampoo);
}

}  // namespace schatten
