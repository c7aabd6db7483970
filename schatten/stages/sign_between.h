// A bracket that takes cheap sign steps between two steps of its inner stage.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Every P-th step, the first included, the inner stage; signs between, at a rate of their own.
///   U = inner(X)  if (t - 1) mod P = 0,   else sign(X), the step (decay included) taken at `rate` times lr
/// trigger = a > 0 chooses by the spectrum instead: inner where |X|_F^2 / sigma_1^2 <= a min(m, n), sigma_1 by a few
/// power iterations from a start that is drawn anew (and reproducibly) for each step.
/// State     the inner stage's.   Locality  the inner stage's (trigger: matrix).
/// Source    LionMuon, code brain-lab-research/lion-muon@b7960be.
/// Differs   the power iterations' start is a pure function of seed, parameter and step.
/// Checked   parity/lionmuon_*, identity/lion_muon_*, law/*.
struct SignBetween {
  int every = 5;
  double rate = 0.025;
  double trigger = 0;
  int power_iterations = 3;
  void fields(auto&& visit) {
    visit("every", every, "period P of the inner stage; 1: always");
    visit("rate", rate, "rate of the sign steps as a share of lr");
    visit("trigger", trigger, "a > 0: the inner stage where |X|_F^2 <= a min(m, n) sigma_1^2, whatever the period");
    visit("power_iterations", power_iterations, "for sigma_1 of the trigger");
  }
};
Stage sign_between(const SignBetween& options, Stage inner);

}  // namespace schatten
