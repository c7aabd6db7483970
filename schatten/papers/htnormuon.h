#pragma once
#include <schatten/papers/htmuon.h>
#include <schatten/stages/normalize_variance.h>

namespace schatten {

struct HtnormuonOptions {
  SpectralPower map{};
  int every = 1;
  Orthogonalize between{.rounding = QuinticRounding::scaled_before};
  double momentum = 0.95;
  bool nesterov = true;
  UpdateNorm update_norm = UpdateNorm::none;
  NormalizeVariance neurons{.eps_form = VarianceEps::inside};
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    map.fields(visit);
    visit("every", every, "k: HTMuon's map on every k-th step, NorMuon's on the others");
    visit("between", between, "NorMuon's iteration there: schedule, steps, eps, eps_mode, rounding, compute");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("update_norm", update_norm, "none (the released code's); rms: as large as Muon's update");
    visit("neurons", neurons, "the normalisation: of, beta2, eps, size, rms");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// HTNorMuon: HTMuon's direction, then NorMuon's learning rate per neuron.
///   M <- mu M + (1 - mu) G,  X = (1 - mu) G + mu M = L S R^T           [m, n]
///   O  = L S^p R^T;  every = k: on steps k, 2k, .., else NS5(X / |X|_F)
///   v <- b2 v + (1 - b2) mean_j O_ij^2                                 [m, 1]   (one v for both kinds of step)
///   Y  = O / sqrt(v + eps),  U = c(m, n) |O|_F Y / |Y|_F
///   W <- (1 - lr lambda) W - lr U
/// State     momentum_buffer [m, n], exp_avg_sq [m, 1]; V as htmuon.
/// Locality  matrix.
/// Source    HTMuon, arXiv:2603.10067, code TDCSZ327/HTmuon@fa85e59 (normuon.py).
/// Differs   as htmuon and normuon: rounding noise maps to 0, conv filters count as their flattened matrix.
/// Checked   parity/htnormuon_*, identity/htnormuon_*, law/*.
inline Recipe htnormuon(const HtnormuonOptions& o) {
  check_share("htnormuon", "momentum", o.momentum);
  std::vector<Stage> stages{ema({.beta = o.momentum, .nesterov = o.nesterov}), htmuon_map(o.map, o.every, o.between)};
  if (o.update_norm == UpdateNorm::rms) stages.push_back(normalize_update());
  stages.push_back(normalize_variance(o.neurons));
  stages.push_back(scale_by_shape({o.shape}));
  return {.name = "htnormuon", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

/// Without a gradient the released code steps on a zero one, undecayed.
template <PowerMethod method>
Replay replay_htnormuon(const Value& h, ComputeDtype compute) {
  HtnormuonOptions o{.map = spectral_of(h, method, compute),
                     .every = interval_of(h),
                     .between = polar_of(h, QuinticRounding::scaled_before, compute),
                     .momentum = real(h, "momentum"),
                     .nesterov = flag(h, "nesterov"),
                     .shape = ShapeScale::jordan_released,
                     .weight_decay = real(h, "weight_decay")};
  o.neurons.beta2 = real(h, "beta2");
  o.neurons.released_conv = true;
  return {.routes = with_auxiliary_adam(h, htnormuon(o)),
          .missing_is_zero = true,
          .slots = {{"v_row", "exp_avg_sq"}},
          .weight_decay = [](const ParameterInfo&, int64_t, bool has_gradient) -> std::optional<double> {
            return has_gradient ? std::nullopt : std::optional(0.0);
          }};
}

inline RecipeInfo htnormuon_info() {
  return recipe_row<HtnormuonOptions>(
      {.name = "htnormuon",
       .group = Group::spectral_power,
       .summary = "NorMuon with singular values to the power p",
       .formula =
           "O = L S^p R^T;  v <- b2 v + (1 - b2) mean_j O^2;  Y = O / sqrt(v + eps);  U = c(m, n) |O|_F Y / |Y|_F",
       .paper = "HTMuon, arXiv:2603.10067 (TDCSZ327/HTmuon, normuon.py)",
       .state = "mn + m + 16m (rational, the default: V)",
       .tune = "lr (2 to 4 times Muon's), power (0.03 to 0.25), every (1, 5)",
       .published = {{"HTNorMuon (SVD)", replay_htnormuon<PowerMethod::svd>},
                     {"HTNorMuon_HT", replay_htnormuon<PowerMethod::rank>},
                     {"HTNorMuon_NS", replay_htnormuon<PowerMethod::released>},
                     {"HTNorMuon interval", replay_htnormuon<PowerMethod::svd>},
                     {"HTNorMuon_NS interval", replay_htnormuon<PowerMethod::released>}}},
      htnormuon);
}

}  // namespace schatten
