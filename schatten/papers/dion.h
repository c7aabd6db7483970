#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/dion.h>
#include <schatten/stages/scaling.h>

namespace schatten {

struct DionOptions {
  double rank = 0.25;
  double mu = 0.95;
  double eps = 1e-8;
  bool transpose = true;
  ShapeScale shape = ShapeScale::bernstein;
  double weight_decay = 0.01;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("rank", rank, "directions: a share of the smaller side in (0, 1), that many from 1 on, all for 0");
    visit("mu", mu, "share of the taken directions that stays in the momentum, in [0, 1)");
    visit("eps", eps, "guards the columns' lengths, > 0");
    visit("transpose", transpose, "wide matrices transposed: Q follows the smaller side (dion_simple: false)");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};
struct Dion2Options {
  double fraction = 0.25;
  double ef_decay = 0.95;
  Orthogonalize polar{.schedule = "modded", .eps = 1e-8, .rounding = QuinticRounding::scaled_after};
  ShapeScale shape = ShapeScale::bernstein;
  double weight_decay = 0.01;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("fraction", fraction, "share of the rows (or columns) per step, in (0, 1]");
    visit("ef_decay", ef_decay, "what stays of a chosen row's momentum, in [0, 1)");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// Dion: an orthogonal update of rank r by one power iteration, what it leaves out stays in the momentum.
///   M <- M + G;   P = qr(M Q)  [m, r];   R = M^T P  [n, r]
///   M <- M - (1 - mu) P R^T;   Q <- R_j / (|R_j| + eps) per column
///   W <- (1 - lr lambda) W - lr sqrt(m/n) P Q^T
/// Variants  transpose = false: dion_simple, which never transposes; rank = 0: all directions.
/// State     momentum_buffer [m, n], Q [min(m, n), r] (transpose = false: [n, r]).
/// Locality  matrix.
/// Source    Ahn et al. 2025, arXiv:2504.05295, code microsoft/dion@0a059a4.
/// Differs   QR by Householder for randomised Cholesky QR (equal up to signs that cancel).
/// Checked   parity/dion_*, identity/dion_*, law/*.
inline Recipe dion(const DionOptions& o) {
  return {.name = "dion",
          .direction = chain({low_rank_polar({.rank = o.rank, .mu = o.mu, .eps = o.eps, .transpose = o.transpose}),
                              scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// Dion2: only the largest rows (columns where there are fewer) are orthogonalised, the rest waits in the momentum.
///   M <- M + G;   I = the ceil(fraction m) rows with the largest L1 norm       [m, n]
///   U_I = sqrt(m/n) polar(M_I), 0 elsewhere;   M_I <- ef_decay M_I
///   W <- (1 - lr lambda) W - lr U
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    Dion2, arXiv:2512.16928, code microsoft/dion@0a059a4.
/// Differs   rows are chosen over the whole matrix, whatever the number of processes.
/// Checked   parity/dion2_*, identity/dion2_*, law/*.
inline Recipe dion2(const Dion2Options& o) {
  return {.name = "dion2",
          .direction = chain({orthogonalize_largest({.fraction = o.fraction, .decay = o.ef_decay, .polar = o.polar}),
                              scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_dion_simple(const Value& h, ComputeDtype) {
  const DionOptions o{.rank = static_cast<double>(integer(h, "rank")),
                      .mu = real(h, "mu"),
                      .eps = real(h, "epsilon"),
                      .transpose = false,
                      .weight_decay = real(h, "weight_decay")};
  return {.routes = {{"any", dion(o), 1.0}}, .slots = {{"Q", "Q", SlotAlias::columns}}, .inputs = {{"Q.init", "Q"}}};
}

inline Replay replay_dion2(const Value& h, ComputeDtype compute) {
  Dion2Options o{
      .fraction = real(h, "fraction"), .ef_decay = real(h, "ef_decay"), .weight_decay = real(h, "weight_decay")};
  o.polar.eps = real(h, "epsilon");
  o.polar.compute = compute;
  o.polar.iteration = PolarIteration::triangle;  // gram is off by 1e-4 in float32 where few rows are chosen
  if (h.string_or("adjust_lr", "spectral_norm") == "rms_norm") o.shape = ShapeScale::moonlight;
  return {.routes = {{"any", dion2(o), 1.0}}};
}

inline RecipeInfo dion_info() {
  return recipe_row<DionOptions>(
      {.name = "dion",
       .group = Group::orthogonalizing,
       .summary = "orthogonal updates of low rank by one power iteration, with error feedback",
       .formula =
           "M <- M + G;  P = qr(M Q);  R = M^T P;  M <- M - (1 - mu) P R^T;  Q = R / |R_j|;  U = sqrt(m/n) P Q^T",
       .paper = "Dion, arXiv:2504.05295 (microsoft/dion)",
       .state = "mn + mr",
       .tune = "lr (0.005 to 0.02), rank (1/16 to 1/2)",
       .published = {{"Dion (simple)", replay_dion_simple}}},
      dion);
}

inline RecipeInfo dion2_info() {
  return recipe_row<Dion2Options>(
      {.name = "dion2",
       .group = Group::orthogonalizing,
       .summary = "orthogonalises the largest rows of the momentum only",
       .formula = "M <- M + G;  I = rows of largest L1 norm;  U_I = sqrt(m/n) polar(M_I);  M_I <- ef_decay M_I",
       .paper = "Dion2, arXiv:2512.16928 (microsoft/dion)",
       .state = "mn",
       .tune = "lr (0.005 to 0.02), fraction (0.25 to 0.5)",
       .published = {{"Dion2", replay_dion2}}},
      dion2);
}

}  // namespace schatten
