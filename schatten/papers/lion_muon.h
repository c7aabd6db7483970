#pragma once
#include <schatten/papers/adamw.h>
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/sign_between.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct LionMuonOptions {
  double beta1 = 0.9, beta2 = 0.99;
  int every = 5;
  double lion_lr_ratio = 0.025;
  double trigger = 0;
  int power_iterations = 3;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  ShapeScale shape = ShapeScale::moonlight;
  double weight_decay = 0.1;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("beta1", beta1, "share of the buffer in the direction, in [0, 1)");
    visit("beta2", beta2, "decay of the buffer, in [0, 1); as beta1: SignMuon");
    visit("every", every, "period P of the spectral steps; 1: only those");
    visit("lion_lr_ratio", lion_lr_ratio, "rate of the sign steps as a share of lr");
    visit("trigger", trigger, "a > 0: spectral where |D|_F^2 <= a min(m, n) sigma_1^2, whatever the period");
    visit("power_iterations", power_iterations, "for sigma_1 of the trigger");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "of spectral steps: none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// LionMuon: a Muon step now and then, Lion's sign steps between.
///   D  = b1 M + (1 - b1) G                                   [m, n]
///   U  = 0.2 sqrt(max(m, n)) NS5(D / |D|_F),  eta = lr                  if (t - 1) mod P = 0
///   U  = sign(D),                             eta = lion_lr_ratio lr    else
///   W <- (1 - eta lambda) W - eta U
///   M <- b2 M + (1 - b2) G
/// Variants  beta1 = beta2: the authors' SignMuon; every = 1 with that: Muon without Nesterov;
///           trigger = a > 0: spectral where the stable rank |D|_F^2 / sigma_1^2 is at most a min(m, n).
/// State     exp_avg [m, n].
/// Locality  matrix.
/// Source    LionMuon, code brain-lab-research/lion-muon@b7960be (lion_muon.py).
/// Differs   the power iterations of the trigger start from a reproducible draw.
/// Checked   parity/lionmuon_*, identity/lion_muon_*, law/*.
inline Recipe lion_muon(const LionMuonOptions& o) {
  return {.name = "lion_muon",
          .direction = chain({lion_momentum({.beta1 = o.beta1, .beta2 = o.beta2}),
                              sign_between({.every = o.every,
                                            .rate = o.lion_lr_ratio,
                                            .trigger = o.trigger,
                                            .power_iterations = o.power_iterations},
                                           chain({orthogonalize(o.polar), scale_by_shape({o.shape})}))}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_lion_muon(const Value& h, ComputeDtype compute) {
  const LionMuonOptions o{.beta1 = real(h, "beta1"),
                          .beta2 = real(h, "beta2"),
                          .every = static_cast<int>(integer(h, "muon_every_k")),
                          .lion_lr_ratio = real(h, "lion_lr_ratio"),
                          .polar = polar_of(h, QuinticRounding::scaled_before, compute),
                          .weight_decay = real(h, "weight_decay")};
  Replay replay{.routes = {{"any", lion_muon(o), 1.0}}, .slots = {{"momentum", "exp_avg"}}};
  if (!h.find("adamw_params")) return replay;
  const AdamwOptions aux{.beta1 = beta(h, 0, "adamw_betas"),
                         .beta2 = beta(h, 1, "adamw_betas"),
                         .eps = real(h, "adamw_eps"),
                         .weight_decay = real(h, "adamw_wd"),
                         .form = AdamForm::uncorrected_eps};
  replay.routes = with_auxiliary(h, "adamw_params", adamw(aux), real(h, "adamw_lr_ratio"), lion_muon(o));
  return replay;
}

inline RecipeInfo lion_muon_info() {
  return recipe_row<LionMuonOptions>(
      {.name = "lion_muon",
       .group = Group::orthogonalizing,
       .summary = "a Muon step every P-th time, Lion's sign steps between",
       .formula = "D = b1 M + (1 - b1) G;  U = 0.2 sqrt(max(m, n)) NS5(D) or sign(D) at lion_lr_ratio lr;  M <- b2 M + "
                  "(1 - b2) G",
       .paper = "LionMuon (brain-lab-research/lion-muon)",
       .state = "mn",
       .tune =
           "lr (7e-4 to 5e-3, the larger the rarer), every (2 to 20), lion_lr_ratio with lr lion_lr_ratio near 5e-5",
       .published = {{"LionMuon", replay_lion_muon}}},
      lion_muon);
}

}  // namespace schatten
