// The papers: one options struct, one recipe function and one registry row each.
#pragma once
#include <schatten/papers/registry.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/spectral.h>

namespace schatten {

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  DecayForm decay = DecayForm::coupled;
  void fields(auto&& visit) {
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled (torch's), decoupled, cautious");
  }
};
Recipe sgd(const SgdOptions& options);
RecipeInfo sgd_info();

/// One family, two published defaults: Adam's decay is in the gradient and off, AdamW's decoupled and 0.01.
template <DecayForm published>
struct AdamFamilyOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = published == DecayForm::decoupled ? 0.01 : 0;
  DecayForm decay = published;
  AdamForm form = AdamForm::torch;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment");
    visit("beta2", beta2, "decay of the second moment");
    visit("eps", eps, "added to the root");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "coupled, decoupled, cautious");
    visit("form", form, "torch, uncorrected_eps");
  }
};
using AdamOptions = AdamFamilyOptions<DecayForm::coupled>;
using AdamwOptions = AdamFamilyOptions<DecayForm::decoupled>;
Recipe adam(const AdamOptions& options);
RecipeInfo adam_info();
Recipe adamw(const AdamwOptions& options);
RecipeInfo adamw_info();

enum class MuonVariant { jordan, torch, moonlight };
constexpr auto enum_names(MuonVariant) { return std::to_array<std::string_view>({"jordan", "torch", "moonlight"}); }
enum class MomentumForm { ema, heavy_ball };
constexpr auto enum_names(MomentumForm) { return std::to_array<std::string_view>({"ema", "heavy_ball"}); }
struct MuonOptions {
  MuonVariant variant = MuonVariant::jordan;
  double momentum = 0.95;
  MomentumForm momentum_form = MomentumForm::ema;
  bool nesterov = true;
  Orthogonalize polar{.rounding = QuinticRounding::scaled_before};
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("variant", variant, "jordan, torch, moonlight: what the keys below default to");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("momentum_form", momentum_form, "ema, heavy_ball");
    visit("nesterov", nesterov, "look one step ahead");
    visit("polar", polar, "the iteration: schedule, steps, eps, eps_mode, rounding, compute");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, coupled, cautious");
  }
};
/// The published settings of a variant.
MuonOptions muon_variant(MuonVariant variant);
Recipe muon(const MuonOptions& options);
RecipeInfo muon_info();

enum class UpdateNorm { none, rms };
constexpr auto enum_names(UpdateNorm) { return std::to_array<std::string_view>({"none", "rms"}); }
struct HtmuonOptions {
  double power = 0.125;
  PowerMethod method = PowerMethod::automatic;
  double interval = 5e-3;
  int poles = 4;
  ComputeDtype compute = ComputeDtype::automatic;
  double momentum = 0.95;
  bool nesterov = true;
  UpdateNorm update_norm = UpdateNorm::none;
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("power", power, "p in [0, 1]: 0 is the exact polar factor, 1 plain momentum");
    visit("method", method, "auto, svd, eigh, rational");
    visit("interval", interval, "rational: accurate above this share of the largest singular value");
    visit("poles", poles, "rational: Cholesky inverses per step");
    visit("compute", compute, "auto (float32, float64 for float64 weights), float32, float64");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("nesterov", nesterov, "look one step ahead");
    visit("update_norm", update_norm, "none (the paper's); rms: as large as Muon's update");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, coupled, cautious");
  }
};
Recipe htmuon(const HtmuonOptions& options);
RecipeInfo htmuon_info();

}  // namespace schatten
