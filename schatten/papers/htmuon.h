#pragma once
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/alternate.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>
#include <schatten/stages/spectral_power.h>

namespace schatten {

enum class UpdateNorm { none, rms };
constexpr auto enum_names(UpdateNorm) { return std::to_array<std::string_view>({"none", "rms"}); }
struct HtmuonOptions {
  double power = 0.125;
  PowerMethod method = PowerMethod::automatic;
  double interval = 5e-3;
  int poles = 4;
  int deflate = 12;
  int ns_steps = 5, root_steps = 5;
  double root_eps = 1e-6;
  ComputeDtype compute = ComputeDtype::automatic;
  int every = 1;
  Orthogonalize between{.rounding = QuinticRounding::scaled_before};
  double momentum = 0.95;
  bool nesterov = true;
  UpdateNorm update_norm = UpdateNorm::none;
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("power", power, "p in [0, 1]: 0 is the exact polar factor, 1 plain momentum");
    visit("method", method, "auto, svd, eigh, rational, mixture; as released: released, rank, streaming");
    visit("interval", interval, "rational: accurate above this share of the largest singular value");
    visit("poles", poles, "rational: Cholesky inverses per step");
    visit("deflate", deflate, "rational: leading directions mapped apart where many values lie below; 0: never");
    visit("ns_steps", ns_steps, "released: iterations of the polar factor");
    visit("root_steps", root_steps, "released: iterations of every square root");
    visit("root_eps", root_eps, "released: added to the Gram matrix, whatever its size");
    visit("compute", compute, SpectralPower::kPowerComputeHelp);
    visit("every", every, "k: HTMuon's update on every k-th step, Muon's on the others");
    visit("between", between, "Muon's iteration there: schedule, steps, eps, eps_mode, rounding, compute");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("update_norm", update_norm, "none (the paper's); rms: as large as Muon's update");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
  SpectralPower spectral() const {
    return {.power = power,
            .method = method,
            .interval = interval,
            .poles = poles,
            .deflate = deflate,
            .ns_steps = ns_steps,
            .root_steps = root_steps,
            .root_eps = root_eps,
            .compute = compute};
  }
};

/// What stands where Muon has Newton-Schulz: the spectral power, or the two in turns.
inline Stage htmuon_map(const SpectralPower& power, int every, const Orthogonalize& between) {
  if (every == 1) return spectral_power(power);
  return alternate({.every = every}, spectral_power(power), orthogonalize(between));
}

/// HTMuon: Muon that keeps a heavy tail, singular values to the power p instead of all to 1.
///   M <- mu M + (1 - mu) G,  X = (1 - mu) G + mu M           [m, n]
///   U  = c(m, n) L S^p R^T  for X = L S R^T;  every = k: on steps k, 2k, .., else c(m, n) NS5(X / |X|_F)
///   W <- (1 - lr lambda) W - lr U
/// Steepest descent under the Schatten-(1 + 1/p) norm without its dual-norm factor (schatten_descent has it): |U| falls
/// with |G| as |G|^p, so that with every > 1 steps differ in length; update_norm = "rms" makes them one.
/// Variants  method = "released", "rank", "streaming": HTMuon_NS, HTMuon_HT and the streaming form of the released code
///           (approximations or something else: see spectral_power).
/// State     momentum_buffer [m, n]; V [min(m, n), deflate + 4] (rational); streaming: V [n, min(m, n)].
/// Locality  matrix.
/// Source    HTMuon, arXiv:2603.10067; code TDCSZ327/HTmuon@fa85e59. Rational method: this project.
/// Differs   singular values below eps max(m, n) sigma_max map to 0 (released code: rounding noise to the power p);
///           conv filters are scaled by their flattened shape (`shape = "jordan_released"` for the released code's 1);
///           the interval counts each parameter's own steps and survives a restart.
/// Checked   parity/htmuon_*, ortho_htmuon_*, identity/{htmuon_*, alternate_*}, law/*.
inline Recipe htmuon(const HtmuonOptions& o) {
  check_share("htmuon", "momentum", o.momentum);
  std::vector<Stage> stages{ema({.beta = o.momentum, .nesterov = o.nesterov}),
                            htmuon_map(o.spectral(), o.every, o.between)};
  if (o.update_norm == UpdateNorm::rms) stages.push_back(normalize_update());
  stages.push_back(scale_by_shape({o.shape}));
  return {.name = "htmuon", .direction = chain(std::move(stages)), .decay = make_decay(o.decay, o.weight_decay)};
}

/// The map as all forms of the released code name it.
inline SpectralPower spectral_of(const Value& h, PowerMethod method, ComputeDtype compute) {
  SpectralPower map{.power = real(h, "power"), .method = method};
  if (method != PowerMethod::released) return map;
  map.ns_steps = static_cast<int>(integer(h, "ns_steps"));
  map.root_steps = static_cast<int>(integer(h, "root_ns_steps"));
  map.root_eps = real(h, "root_eps");
  map.compute = compute;
  return map;
}
inline int interval_of(const Value& h) { return h.find("interval") ? static_cast<int>(integer(h, "interval")) : 1; }

template <PowerMethod method>
Replay replay_htmuon(const Value& h, ComputeDtype compute) {
  const SpectralPower map = spectral_of(h, method, compute);
  const bool flattened = method == PowerMethod::streaming;  // the only form that scales filters by their matrix
  const HtmuonOptions o{.power = map.power,
                        .method = map.method,
                        .ns_steps = map.ns_steps,
                        .root_steps = map.root_steps,
                        .root_eps = map.root_eps,
                        .compute = map.compute,
                        .every = interval_of(h),
                        .between = polar_of(h, QuinticRounding::scaled_before, compute),
                        .momentum = real(h, "momentum"),
                        .nesterov = flag(h, "nesterov"),
                        .shape = flattened ? ShapeScale::jordan : ShapeScale::jordan_released,
                        .weight_decay = real(h, "weight_decay")};
  return {
      .routes = with_auxiliary_adam(h, htmuon(o)), .missing_is_zero = true, .slots = {{"V", "V", SlotAlias::columns}}};
}

inline RecipeInfo htmuon_info() {
  return recipe_row<HtmuonOptions>(
      {.name = "htmuon",
       .group = Group::spectral_power,
       .summary = "Muon with singular values to the power p",
       .formula = "M <- mu M + (1 - mu) G;  U = c(m, n) L S^p R^T of (1 - mu) G + mu M;  W <- (1 - lr lambda) W - lr U",
       .paper = "HTMuon, arXiv:2603.10067 (TDCSZ327/HTmuon); rational method: this project",
       .state = "mn + 16m (rational, the default: V)",
       .tune = "lr (2 to 4 times Muon's), power (0.03 to 0.25), every (1, 5)",
       .published = {{"HTMuon (SVD)", replay_htmuon<PowerMethod::svd>},
                     {"HTMuon_HT (rank power k^-p)", replay_htmuon<PowerMethod::rank>},
                     {"HTMuon_NS", replay_htmuon<PowerMethod::released>},
                     {"HTMuon (streaming QR)", replay_htmuon<PowerMethod::streaming>},
                     {"HTMuon interval", replay_htmuon<PowerMethod::svd>},
                     {"HTMuon_NS interval", replay_htmuon<PowerMethod::released>}}},
      htmuon);
}

}  // namespace schatten
