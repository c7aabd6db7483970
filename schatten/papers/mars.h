#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/variance_reduction.h>
#include <schatten/stages/vectors_apart.h>

namespace schatten {

enum class MarsForm { adamw, lion, shampoo };
constexpr auto enum_names(MarsForm) { return std::to_array<std::string_view>({"adamw", "lion", "shampoo"}); }
struct MarsOptions {
  MarsForm form = MarsForm::adamw;
  double beta1 = 0.95, beta2 = 0.99, eps = 1e-8, gamma = 0.025, max_norm = 1;
  Orthogonalize polar{.eps = 1e-8};
  ShapeScale shape = ShapeScale::jordan;
  bool optimize_1d = false;
  double beta1_1d = 0.9, beta2_1d = 0.95, rate_1d = 1;
  bool conv_released = false;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("form", form, "adamw, lion, shampoo: what the corrected gradient goes through");
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment (adamw)");
    visit("eps", eps, "added to the root (adamw)");
    visit("gamma", gamma, "strength of the correction");
    visit("max_norm", max_norm, "largest Frobenius norm of the corrected gradient; 0: any");
    visit("polar", polar, "shampoo: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "shampoo: none, jordan, jordan_released, moonlight, bernstein");
    visit("optimize_1d", optimize_1d, "vectors, too; otherwise they are on AdamW");
    visit("beta1_1d", beta1_1d, "vectors on AdamW: decay of the first moment");
    visit("beta2_1d", beta2_1d, "vectors on AdamW: decay of the second moment");
    visit("rate_1d", rate_1d, "vectors on AdamW: their rate as a share of lr");
    visit("conv_released", conv_released, "convolution filters count as vectors, as in the released code");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// What follows the correction.
inline std::vector<Stage> mars_stages(const MarsOptions& o, MarsForm form) {
  if (form == MarsForm::adamw) return {scale_by_adam({.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps})};
  if (form == MarsForm::lion) return {ema({.beta = o.beta1}), sign()};
  return {heavy_ball({.momentum = o.beta1}), orthogonalize(o.polar), scale_by_shape({o.shape})};  // M / (1 - b1)
}

inline Stage mars_direction(const MarsOptions& o, MarsForm form) {
  std::vector<Stage> stages = mars_stages(o, form);
  stages.insert(stages.begin(), variance_reduction({.beta1 = o.beta1, .gamma = o.gamma, .max_norm = o.max_norm}));
  return chain(std::move(stages));
}

/// MARS: any of three directions on a gradient whose variance is reduced by its own change.
///   C  = G + gamma b1 / (1 - b1) (G - G_prev),   C <- C / |C|_F where |C|_F > 1                  [m, n]
///   M <- b1 M + (1 - b1) C
///   adamw    V <- b2 V + (1 - b2) C^2,   U = M^ / (sqrt(V^) + eps)
///   lion     U = sign(M)
///   shampoo  U = sqrt(max(1, m/n)) NS5(M / (1 - b1));  vectors as adamw
///   W <- (1 - lr lambda) W - lr U
/// Vectors   AdamW (beta1_1d, beta2_1d) at rate_1d lr, unless optimize_1d.
/// State     previous_grad and exp_avg, exp_avg_sq (adamw) or momentum_buffer (lion, shampoo) [m, n].
/// Locality  matrix.
/// Source    Yuan et al. 2024, arXiv:2411.10438; code AGI-Arena/MARS@4831e28.
/// Differs   convolution filters are matrices (`conv_released = true`: vectors, as released); vectors decay as matrices
///           do (route them apart for a lambda of their own); products of the iteration are grouped as torch's, which
///           differs from the released order in bfloat16 by 3 %; the shampoo form keeps no second moment.
/// Checked   parity/mars_*, identity/mars_*, law/*.
inline Recipe mars(const MarsOptions& o) {
  Stage direction = mars_direction(o, o.form);
  if (!o.optimize_1d || o.form == MarsForm::shampoo) {
    const Stage vectors = o.optimize_1d ? mars_direction(o, MarsForm::adamw)
                                        : scale_by_adam({.beta1 = o.beta1_1d, .beta2 = o.beta2_1d, .eps = o.eps});
    direction = vectors_apart(
        {.vectors = vectors.to_value(), .rate = o.optimize_1d ? 1 : o.rate_1d, .conv = o.conv_released}, direction);
  }
  return {.name = "mars", .direction = std::move(direction), .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_mars(MarsForm form, const Value& h, ComputeDtype compute) {
  const double eps = real(h, "eps"), lambda = real(h, "weight_decay"), lambda_1d = real(h, "weight_decay_1d");
  const bool optimize_1d = flag(h, "optimize_1d");
  const MarsOptions o{.form = form,
                      .beta1 = beta(h, 0),
                      .beta2 = beta(h, 1),
                      .eps = eps,
                      .gamma = real(h, "gamma"),
                      .polar = {.eps = eps, .compute = compute},
                      .optimize_1d = optimize_1d,
                      .beta1_1d = beta(h, 0, "betas_1d"),
                      .beta2_1d = beta(h, 1, "betas_1d"),
                      .rate_1d = real(h, "lr_1d") / real(h, "lr_base"),
                      .conv_released = true};
  Recipe recipe = mars(o);
  recipe.decay = {DecayForm::decoupled, lambda};                    // kept at 0, too: vectors may still decay
  const double kept = form == MarsForm::shampoo ? 1 - o.beta1 : 1;  // a sum there, an average here
  return {.routes = {{"any", recipe, 1.0}},
          .slots = {{"m", "exp_avg"},
                    {.theirs = "m", .ours = "momentum_buffer", .factor = kept},
                    {"v", "exp_avg_sq"},
                    {"v", ""}},  // theirs stays 0 in the lion and shampoo forms
          .weight_decay = [=](const ParameterInfo& p, int64_t, bool) -> std::optional<double> {
            return p.shape.size() == 2 || optimize_1d ? lambda : lambda_1d;
          }};
}

inline RecipeInfo mars_info() {
  const auto form = [](MarsForm f) {
    return [f](const Value& h, ComputeDtype compute) { return replay_mars(f, h, compute); };
  };
  return recipe_row<MarsOptions>(
      {.name = "mars",
       .group = Group::elementwise,
       .summary = "variance-reduced gradient in AdamW, Lion or Muon",
       .formula = "C = clip(G + gamma b1 / (1 - b1) (G - G_prev));  U = AdamW, sign or NS5 of the average of C",
       .paper = "Yuan et al. 2024, arXiv:2411.10438 (AGI-Arena/MARS)",
       .state = "3mn (lion, shampoo: 2mn)",
       .tune = "lr (adamw 1e-3 to 6e-3, lion a third of that, shampoo 0.02), gamma (0.005 to 0.05)",
       .published = {{"MARS (adamw)", form(MarsForm::adamw)},
                     {"MARS (lion)", form(MarsForm::lion)},
                     {"MARS (shampoo)", form(MarsForm::shampoo)}}},
      mars);
}

}  // namespace schatten
