// Momentum in its two conventions. U_ema = (1 - beta) U_heavy_ball exactly, so scale-invariant maps agree.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Exponential moving average of the gradient.
///   M <- beta M + (1 - beta) G
///   U  = (1 - beta) G + beta M  if nesterov, else M          [.., m, n]
/// State     momentum_buffer [m, n].
/// Locality  elementwise.
/// Source    KellerJordan/Muon, torch.optim.Muon (lerp form: same bits as theirs).
/// Checked   parity/keller_muon_*, torch_muon_*, law/*.
struct Ema {
  double beta = 0.95;
  bool nesterov = false;
  void fields(auto&& visit) {
    visit("beta", beta, "decay of the average, in [0, 1)");
    visit("nesterov", nesterov, "mix the current gradient in once more");
  }
  std::string name() const { return "ema"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"momentum_buffer"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage ema(const Ema& options);

/// Momentum as a sum: torch.optim.SGD's, Moonlight's.
///   M <- mu M + G
///   U  = G + mu M  if nesterov, else M                       [.., m, n]
/// State     momentum_buffer [m, n].
/// Locality  elementwise.
/// Source    torch.optim.SGD (dampening 0), MoonshotAI/Moonlight.
/// Checked   parity/moonlight_muon_*, identity/sgd_equals_torch, law/*.
struct HeavyBall {
  double momentum = 0.9;
  bool nesterov = false;
  void fields(auto&& visit) {
    visit("momentum", momentum, "decay of the sum, in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
  }
  std::string name() const { return "heavy_ball"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"momentum_buffer"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage heavy_ball(const HeavyBall& options);

enum class MomentumForm { ema, heavy_ball };
constexpr auto enum_names(MomentumForm) { return std::to_array<std::string_view>({"ema", "heavy_ball"}); }
/// Either of the two.
Stage momentum(MomentumForm form, double decay, bool nesterov);

}  // namespace schatten
