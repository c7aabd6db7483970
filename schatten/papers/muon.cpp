#include <schatten/papers/papers.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>

namespace schatten {

/// Muon: momentum, orthogonalised.
///   M <- mu M + (1 - mu) G                          [m, n]   (moonlight: mu M + G)
///   X  = (1 - mu) G + mu M                                   (nesterov)
///   U  = c(m, n) NS5(X / |X|_F)                              singular values about 1
///   W <- (1 - lr lambda) W - lr U
/// Variants  jordan     c = sqrt(max(1, m/n)), eps added;
///           torch      the same, eps clamps, products fused, lambda = 0.1;
///           moonlight  heavy ball, c = 0.2 sqrt(max(m, n)), lambda = 0.1.
/// State     momentum_buffer [m, n].
/// Locality  matrix.
/// Source    Jordan et al. 2024, code KellerJordan/Muon@857d1ad; torch.optim.Muon 2.13;
///           Liu et al. 2025, arXiv:2502.16982, code MoonshotAI/Moonlight@c2ad5b2.
/// Differs   conv filters are scaled by their flattened shape (`shape = "jordan_released"` for the released
///           code's 1); a missing gradient skips the step; the iteration need not be bfloat16.
/// Checked   parity/keller_muon_*, torch_muon_*, moonlight_muon_*, identity/muon_*, law/*.
Recipe muon(const MuonOptions& o) {
  check_share("muon", "momentum", o.momentum);
  const Stage momentum = o.momentum_form == MomentumForm::ema
                             ? ema({.beta = o.momentum, .nesterov = o.nesterov})
                             : heavy_ball({.momentum = o.momentum, .nesterov = o.nesterov});
  return {.name = "muon",
          .direction = chain({momentum, orthogonalize(o.polar), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

MuonOptions muon_variant(MuonVariant variant) {
  MuonOptions o{.variant = variant};
  if (variant == MuonVariant::torch) {
    o.polar.rounding = QuinticRounding::fused;
    o.polar.eps_mode = EpsMode::clamp;
    o.weight_decay = 0.1;
  }
  if (variant == MuonVariant::moonlight) {
    o.momentum_form = MomentumForm::heavy_ball;
    o.shape = ShapeScale::moonlight;
    o.weight_decay = 0.1;
  }
  return o;
}

RecipeInfo muon_info() {
  return recipe_row<MuonOptions>(
      {.name = "muon",
       .summary = "momentum, orthogonalised by Newton-Schulz",
       .formula = "M <- mu M + (1 - mu) G;  U = c(m, n) NS5((1 - mu) G + mu M);  W <- (1 - lr lambda) W - lr U",
       .paper = "Jordan et al. 2024 (KellerJordan/Muon); torch.optim.Muon; Moonlight, arXiv:2502.16982",
       .state = "mn"},
      muon, [](const Value& table) {
        MuonVariant variant = MuonVariant::jordan;
        if (const Value* v = table.find("variant")) read_field(*v, "muon", "variant", variant);
        return muon_variant(variant);
      });
}

}  // namespace schatten
