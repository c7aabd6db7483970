// Masks: stages that let through a part of the update.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// How a mask makes up for what it stops: divide by the share that passes.
enum class MaskScale {
  share,  // / max(mean(mask), 1e-3)              (C-AdamW, C-Muon)
  lion,   // * numel / (sum(mask) + 1)            (C-Lion)
};
constexpr auto enum_names(MaskScale) { return std::to_array<std::string_view>({"share", "lion"}); }

/// Cautious: only entries that go where the gradient goes.
///   mask = [(U - (1 - nesterov) G) G > 0],  nesterov = 1: [U G > 0];   U <- U mask / share            [.., m, n]
/// `nesterov`: where U = (1 - mu) G + mu M was mixed, nesterov = mu compares M with G, as C-Muon's code does.
/// State     none.   Locality  matrix (the share is the parameter's).
/// Source    Liang et al. 2024, arXiv:2411.16085, code kyleliang919/C-Optim@2c0517c.
/// Checked   parity/c_adamw_*, c_lion_*, c_muon_*, identity/cautious_*, law/*.
struct Cautious {
  MaskScale scale = MaskScale::share;
  double nesterov = 1;
  void fields(auto&& visit) {
    visit("scale", scale, "share (of entries that pass), lion");
    visit("nesterov", nesterov, "mu where U was mixed with G by Nesterov's rule before; 1 otherwise");
  }
  std::string name() const { return "cautious"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage cautious(const Cautious& options);

/// sign(U): 0 stays 0. State none. Locality elementwise. Source signSGD, Lion. Checked parity/lion_*, law/*.
struct Sign {
  void fields(auto&&) {}
  std::string name() const { return "sign"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage sign();

/// U = factor X. State none. Locality elementwise.
struct Scale {
  double factor = 1;
  void fields(auto&& visit) { visit("factor", factor, "what to multiply by"); }
  std::string name() const { return "scale"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale(double factor);

}  // namespace schatten
