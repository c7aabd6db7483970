#pragma once
#include <schatten/papers/adamw.h>
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/in_blocks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

enum class MuonVariant { jordan, torch, moonlight, k2, dion, gram };
constexpr auto enum_names(MuonVariant) {
  return std::to_array<std::string_view>({"jordan", "torch", "moonlight", "k2", "dion", "gram"});
}
/// Which rows are a matrix of their own.
enum class MuonSplit { none, heads, fused };
constexpr auto enum_names(MuonSplit) { return std::to_array<std::string_view>({"none", "heads", "fused"}); }
struct MuonOptions {
  MuonVariant variant = MuonVariant::jordan;
  double momentum = 0.95;
  MomentumForm momentum_form = MomentumForm::ema;
  bool nesterov = true;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  ShapeScale shape = ShapeScale::jordan;
  MuonSplit split = MuonSplit::none;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("variant", variant, "jordan, torch, moonlight, k2, dion, gram: what the keys below default to");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("momentum_form", momentum_form, "ema, heavy_ball");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("split", split, "none; heads: each attention head by itself; fused: fused q, k, v each by itself");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// The published settings of a variant.
inline MuonOptions muon_variant(MuonVariant variant) {
  MuonOptions o{.variant = variant};
  if (variant == MuonVariant::torch) {
    o.polar.rounding = QuinticRounding::fused;
    o.polar.eps_mode = EpsMode::clamp;
    o.weight_decay = 0.1;
  }
  if (variant == MuonVariant::moonlight || variant == MuonVariant::k2 || variant == MuonVariant::gram) {
    o.momentum_form = MomentumForm::heavy_ball;
    o.nesterov = variant != MuonVariant::k2;
    o.shape = ShapeScale::moonlight;
    o.weight_decay = 0.1;
  }
  if (variant == MuonVariant::dion) {
    o.momentum_form = MomentumForm::heavy_ball;
    o.nesterov = false;
    o.polar = {.schedule = "modded", .eps = 1e-8, .rounding = QuinticRounding::scaled_after};
    o.shape = ShapeScale::bernstein;
    o.weight_decay = 0.01;
  }
  if (variant == MuonVariant::gram)  // not bfloat16: on X X^T it loses a third of the update
    o.polar = {
        .schedule = "gram105", .compute = ComputeDtype::float32, .iteration = PolarIteration::gram, .restarts = {2}};
  return o;
}

/// Muon: momentum, orthogonalised.
///   M <- mu M + (1 - mu) G                          [m, n]   (moonlight: mu M + G)
///   X  = (1 - mu) G + mu M                                   (nesterov)
///   U  = c(m, n) NS5(X / |X|_F)                              singular values about 1
///   W <- (1 - lr lambda) W - lr U
/// Variants  jordan     c = sqrt(max(1, m/n)), eps added;
///           torch      the same, eps clamps, products fused, lambda = 0.1;
///           moonlight  heavy ball, c = 0.2 sqrt(max(m, n)), lambda = 0.1;
///           k2         moonlight without Nesterov (MuonClip's update; the clip: recipe muonclip);
///           dion       heavy ball without Nesterov, schedule "modded", c = sqrt(m/n), lambda = 0.01;
///           gram       moonlight with schedule "gram105" on X X^T, in float32 (the code: float16).
///           split = heads, fused: blocks of rows are orthogonalised and scaled one by one.
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    Jordan et al. 2024, code KellerJordan/Muon@857d1ad; torch.optim.Muon 2.13;
///           Liu et al. 2025, arXiv:2502.16982, code MoonshotAI/Moonlight@c2ad5b2; Kimi K2, arXiv:2507.20534;
///           microsoft/dion@0a059a4 (muon.py); Dao-AILab/gram-newton-schulz@f08f25e (muon.py).
/// Differs   conv filters are scaled by their flattened shape (`shape = "jordan_released"` for the released
///           code's 1); a missing gradient skips the step; the iteration need not be bfloat16.
/// Checked   parity/keller_muon_*, torch_muon_*, moonlight_muon_*, identity/muon_*, law/*.
inline Recipe muon(const MuonOptions& o) {
  check_share("muon", "momentum", o.momentum);
  const Stage buffer = momentum(o.momentum_form, o.momentum, o.nesterov);
  const Stage polar = orthogonalize(o.polar), shape = scale_by_shape({o.shape});
  const BlockRows by = o.split == MuonSplit::fused ? BlockRows::fused : BlockRows::heads;
  return {.name = "muon",
          .direction = o.split == MuonSplit::none ? chain({buffer, polar, shape})
                                                  : chain({buffer, in_blocks({by}, chain({polar, shape}))}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

/// momentum, nesterov, weight_decay and the iteration, as all three codes name them.
inline MuonOptions muon_options(MuonVariant variant, const Value& h, QuinticRounding rounding, ComputeDtype compute) {
  MuonOptions o = muon_variant(variant);
  o.momentum = real(h, "momentum");
  o.nesterov = flag(h, "nesterov");
  o.weight_decay = real(h, "weight_decay");
  o.polar = polar_of(h, rounding, compute);
  return o;
}

inline Replay replay_jordan(const Value& h, ComputeDtype compute) {
  MuonOptions o = muon_options(MuonVariant::jordan, h, QuinticRounding::scaled_before, compute);
  o.shape = ShapeScale::jordan_released;
  return {.routes = with_auxiliary_adam(h, muon(o)), .missing_is_zero = true};
}

inline Replay replay_torch_muon(const Value& h, ComputeDtype compute) {
  MuonOptions o = muon_options(MuonVariant::torch, h, QuinticRounding::fused, compute);
  if (h.string_or("adjust_lr_fn", "original") == "match_rms_adamw") o.shape = ShapeScale::moonlight;
  return {.routes = {{"any", muon(o), 1.0}}};
}

inline Replay replay_moonlight(const Value& h, ComputeDtype compute) {
  const AdamwOptions aux{.beta1 = beta(h, 0, "adamw_betas"),
                         .beta2 = beta(h, 1, "adamw_betas"),
                         .eps = real(h, "adamw_eps"),
                         .weight_decay = real(h, "weight_decay"),
                         .form = AdamForm::uncorrected_eps};
  const MuonOptions o = muon_options(MuonVariant::moonlight, h, QuinticRounding::scaled_before, compute);
  return {.routes = with_auxiliary(h, "adamw_params", adamw(aux), 1.0, muon(o))};
}

inline RecipeInfo muon_info() {
  return recipe_row<MuonOptions>(
      {.name = "muon",
       .group = Group::orthogonalizing,
       .summary = "momentum, orthogonalised by Newton-Schulz",
       .formula = "M <- mu M + (1 - mu) G;  U = c(m, n) NS5((1 - mu) G + mu M);  W <- (1 - lr lambda) W - lr U",
       .paper = "Jordan et al. 2024 (KellerJordan/Muon); torch.optim.Muon; Moonlight, arXiv:2502.16982",
       .state = "mn",
       .tune = "lr (0.005 to 0.05), the rate of the vectors' AdamW",
       .published = {{"Muon (Keller Jordan)", replay_jordan},
                     {"torch.optim.Muon", replay_torch_muon},
                     {"Muon (Moonlight)", replay_moonlight}}},
      muon, [](const Value& table) {
        MuonVariant variant = MuonVariant::jordan;
        if (const Value* v = table.find("variant")) read_field(*v, "muon", "variant", variant);
        return muon_variant(variant);
      });
}

}  // namespace schatten
