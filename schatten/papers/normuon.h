#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/normalize_variance.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

enum class NormuonVariant { paper, repository, modded, dion, htmuon_repository };
constexpr auto enum_names(NormuonVariant) {
  return std::to_array<std::string_view>({"paper", "repository", "modded", "dion", "htmuon_repository"});
}
struct NormuonOptions {
  NormuonVariant variant = NormuonVariant::paper;
  double momentum = 0.95;
  MomentumForm momentum_form = MomentumForm::ema;
  bool nesterov = false;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  NormalizeVariance neurons{.eps = 1e-8, .size = UpdateSize::rms};
  ShapeScale shape = ShapeScale::none;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("variant", variant, "paper, repository, modded, dion, htmuon_repository: what the keys below default to");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("momentum_form", momentum_form, "ema, heavy_ball");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("neurons", neurons, "the normalisation: of, beta2, eps, size, rms");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious, cautious_squared");
  }
};

/// The published settings of a variant.
inline NormuonOptions normuon_variant(NormuonVariant variant) {
  NormuonOptions o{.variant = variant};
  if (variant == NormuonVariant::paper) return o;
  o.neurons = NormalizeVariance{};
  o.nesterov = variant != NormuonVariant::dion;
  o.shape = ShapeScale::jordan;
  o.weight_decay = variant == NormuonVariant::htmuon_repository ? 0.1 : 0;
  if (variant == NormuonVariant::htmuon_repository) o.neurons.eps_form = VarianceEps::inside;
  if (variant == NormuonVariant::modded) {
    o.polar = {.schedule = "modded", .eps = 1e-6, .rounding = QuinticRounding::fused};
    o.neurons = {
        .of = VarianceOf::longer, .beta2 = 0.9, .eps_form = VarianceEps::floor, .size_eps_mode = EpsMode::clamp};
    o.weight_decay = 1.2;
    o.decay = DecayForm::cautious_squared;
  }
  if (variant == NormuonVariant::dion) {
    o.momentum_form = MomentumForm::heavy_ball;
    o.polar = {.schedule = "modded", .eps = 1e-8, .rounding = QuinticRounding::scaled_after};
    o.neurons = {.eps = 1e-8, .size_eps = 1e-8, .size_eps_mode = EpsMode::clamp};
    o.shape = ShapeScale::bernstein;
    o.weight_decay = 0.01;
  }
  return o;
}

/// NorMuon: Muon with a learning rate per neuron.
///   M <- mu M + (1 - mu) G                                   [m, n]
///   O  = NS5(M / |M|_F)
///   v <- b2 v + (1 - b2) mean_j O_ij^2                       [m, 1]
///   Y  = O / (sqrt(v) + eps),   U = 0.2 sqrt(mn) Y / |Y|_F
///   W <- (1 - lr lambda) W - lr U
/// Variants  repository         Nesterov, U = c(m, n) |O|_F Y / |Y|_F, c = sqrt(max(1, m/n)), lambda = 0;
///           modded             schedule "modded", v of the longer side, b2 = 0.9, 1/sqrt(max(v, 1e-10)), decay
///                              "cautious_squared" with lambda = 1.2, else as repository;
///           dion               heavy ball without Nesterov, schedule "modded", c = sqrt(m/n), lambda = 0.01;
///           htmuon_repository  repository with 1/sqrt(v + 1e-10), lambda = 0.1.
/// State     momentum_buffer [m, n], exp_avg_sq [m, 1] (modded: [1, n] where m < n), float32 at least.
/// Locality  matrix.
/// Source    Li et al. 2025, arXiv:2510.05491, code zichongli5/NorMuon@d45c9a4; KellerJordan/modded-nanogpt@f411b3d;
///           microsoft/dion@0a059a4 (normuon.py); TDCSZ327/HTmuon@fa85e59 (normuon.py).
/// Differs   conv filters count as their flattened matrix (released codes: per kernel, neurons.released_conv, and
///           shape = "jordan_released"); v is float32 where the released code keeps bfloat16; a missing gradient skips.
/// Checked   parity/normuon_*, htrepo_normuon_*, dion_normuon_*, identity/normuon_*, law/*.
inline Recipe normuon(const NormuonOptions& o) {
  check_share("normuon", "momentum", o.momentum);
  return {.name = "normuon",
          .direction = chain({momentum(o.momentum_form, o.momentum, o.nesterov), orthogonalize(o.polar),
                              normalize_variance(o.neurons), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_normuon_repository(NormuonVariant variant, const Value& h, ComputeDtype compute) {
  NormuonOptions o = normuon_variant(variant);
  o.momentum = real(h, "momentum");
  o.nesterov = flag(h, "nesterov");
  o.polar = polar_of(h, QuinticRounding::scaled_before, compute);
  o.neurons.beta2 = real(h, "beta2");
  o.neurons.released_conv = true;
  o.shape = ShapeScale::jordan_released;
  o.weight_decay = real(h, "weight_decay");
  return {.routes = with_auxiliary_adam(h, normuon(o)),
          .missing_is_zero = true,
          .slots = {{"v_row", "exp_avg_sq"}},
          .weight_decay = [](const ParameterInfo&, int64_t, bool has_gradient) -> std::optional<double> {
            return has_gradient ? std::nullopt : std::optional(0.0);
          }};
}

inline Replay replay_normuon_modded(const Value& h, ComputeDtype compute) {
  NormuonOptions o = normuon_variant(NormuonVariant::modded);
  o.momentum = real(h, "momentum");
  o.neurons.beta2 = real(h, "beta2");
  o.polar.compute = compute;
  o.weight_decay = real(h, "weight_decay");
  return {.routes = {{"any", normuon(o), 1.0}}};
}

inline Replay replay_normuon_dion(const Value& h, ComputeDtype compute) {
  NormuonOptions o = normuon_variant(NormuonVariant::dion);
  o.momentum = real(h, "momentum");
  o.nesterov = flag(h, "nesterov");
  o.neurons.beta2 = real(h, "muon_beta2");
  o.polar.eps = real(h, "epsilon");
  o.polar.compute = compute;
  if (h.string_or("adjust_lr", "spectral_norm") == "rms_norm") o.shape = ShapeScale::moonlight;
  o.weight_decay = real(h, "weight_decay");
  o.decay = flag(h, "cautious_wd") ? DecayForm::cautious : DecayForm::decoupled;
  return {.routes = {{"any", normuon(o), 1.0}}, .slots = {{"v_row", "exp_avg_sq"}}};
}

inline RecipeInfo normuon_info() {
  const auto of = [](NormuonVariant variant) {
    return [variant](const Value& h, ComputeDtype compute) { return replay_normuon_repository(variant, h, compute); };
  };
  return recipe_row<NormuonOptions>(
      {.name = "normuon",
       .group = Group::orthogonalizing,
       .summary = "Muon whose neurons are brought to one size by their running mean squares",
       .formula = "O = NS5(M);  v <- b2 v + (1 - b2) mean_j O^2;  Y = O / (sqrt(v) + eps);  U = 0.2 sqrt(mn) Y / |Y|_F",
       .paper = "NorMuon, arXiv:2510.05491 (zichongli5/NorMuon, modded-nanogpt, microsoft/dion)",
       .state = "mn + m",
       .tune = "lr (AdamW's; variants other than paper: Muon's), weight_decay",
       .published = {{"NorMuon (paper repository)", of(NormuonVariant::repository)},
                     {"NorMuon (HTMuon repository)", of(NormuonVariant::htmuon_repository)},
                     {"NorMuon (modded-nanogpt)", replay_normuon_modded},
                     {"NorMuon (dion)", replay_normuon_dion}}},
      normuon, [](const Value& table) {
        NormuonVariant variant = NormuonVariant::paper;
        if (const Value* v = table.find("variant")) read_field(*v, "normuon", "variant", variant);
        return normuon_variant(variant);
      });
}

}  // namespace schatten
