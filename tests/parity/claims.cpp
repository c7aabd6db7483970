#include "parity/claims.h"

#include <ATen/ATen.h>
#include <schatten/papers/papers.h>

namespace schatten::testing {

namespace {

/// Hyper-parameters of the authors' code under our names.
template <class Options>
Options adam_options(const Value& hyper, const char* betas, const char* eps) {
  const auto& b = hyper.at(betas).as_array();
  return {.beta1 = b[0].as_real(),
          .beta2 = b[1].as_real(),
          .eps = hyper.at(eps).as_real(),
          .weight_decay = hyper.at("weight_decay").as_real()};
}

/// Routes for the parameters that the case names as auxiliary, then the rest.
std::vector<Route> with_auxiliary(const Value& hyper, const char* names, const AdamwOptions& adam, double factor,
                                  const Recipe& main) {
  std::vector<Route> routes;
  if (const Value* list = hyper.find(names))
    for (const Value& name : list->as_array()) routes.push_back({name.as_string(), adamw(adam), factor});
  routes.push_back({"any", main, 1.0});
  return routes;
}

Orthogonalize polar_options(const Value& hyper, QuinticRounding rounding, ComputeDtype compute) {
  Orthogonalize polar{.steps = static_cast<int>(hyper.at("ns_steps").as_integer()),
                      .eps = hyper.at("eps").as_real(),
                      .rounding = rounding,
                      .compute = compute};
  if (hyper.string_or("eps_mode", "add") == "clamp") polar.eps_mode = EpsMode::clamp;
  return polar;
}

TrajectoryClaim jordan(const Value& hyper, ComputeDtype compute) {
  MuonOptions o = muon_variant(MuonVariant::jordan);
  o.momentum = hyper.at("momentum").as_real();
  o.nesterov = hyper.at("nesterov").as_bool();
  o.weight_decay = hyper.at("weight_decay").as_real();
  o.shape = ShapeScale::jordan_released;
  o.polar = polar_options(hyper, QuinticRounding::scaled_before, compute);
  if (!hyper.find("aux_params")) return {{{"any", muon(o), 1.0}}, true};
  return {with_auxiliary(hyper, "aux_params", adam_options<AdamwOptions>(hyper, "aux_betas", "aux_eps"),
                         hyper.at("aux_lr_factor").as_real(), muon(o)),
          true};
}

TrajectoryClaim torch_muon(const Value& hyper, ComputeDtype compute) {
  MuonOptions o = muon_variant(MuonVariant::torch);
  o.momentum = hyper.at("momentum").as_real();
  o.nesterov = hyper.at("nesterov").as_bool();
  o.weight_decay = hyper.at("weight_decay").as_real();
  o.polar = polar_options(hyper, QuinticRounding::fused, compute);
  if (hyper.string_or("adjust_lr_fn", "original") == "match_rms_adamw") o.shape = ShapeScale::moonlight;
  return {{{"any", muon(o), 1.0}}};
}

TrajectoryClaim moonlight(const Value& hyper, ComputeDtype compute) {
  MuonOptions o = muon_variant(MuonVariant::moonlight);
  o.momentum = hyper.at("momentum").as_real();
  o.nesterov = hyper.at("nesterov").as_bool();
  o.weight_decay = hyper.at("weight_decay").as_real();
  o.polar = polar_options(hyper, QuinticRounding::scaled_before, compute);
  auto adam = adam_options<AdamwOptions>(hyper, "adamw_betas", "adamw_eps");
  adam.form = AdamForm::uncorrected_eps;
  return {with_auxiliary(hyper, "adamw_params", adam, 1.0, muon(o))};
}

TrajectoryClaim htmuon_svd(const Value& hyper) {
  const HtmuonOptions o{.power = hyper.at("power").as_real(),
                        .method = PowerMethod::svd,
                        .momentum = hyper.at("momentum").as_real(),
                        .nesterov = hyper.at("nesterov").as_bool(),
                        .shape = ShapeScale::jordan_released,
                        .weight_decay = hyper.at("weight_decay").as_real()};
  if (!hyper.find("aux_params")) return {{{"any", htmuon(o), 1.0}}, true};
  return {with_auxiliary(hyper, "aux_params", adam_options<AdamwOptions>(hyper, "aux_betas", "aux_eps"),
                         hyper.at("aux_lr_factor").as_real(), htmuon(o)),
          true};
}

Map quintic(const Value& hyper, ComputeDtype compute) {
  NewtonSchulzOptions o{.eps = hyper.at("eps").as_real(), .rounding = QuinticRounding::scaled_before};
  if (hyper.string_or("eps_mode", "add") == "clamp") o.eps_mode = EpsMode::clamp;
  o.schedule.norm_margin = hyper.real_or("f", 1);
  for (const Value& abc : hyper.at("coefficients").as_array()) {
    const auto& c = abc.as_array();
    o.schedule.coefficients.push_back({c[0].as_real(), c[1].as_real(), c.size() > 2 ? c[2].as_real() : 0.0});
  }
  return [o, compute](const Tensor& x) {
    return newton_schulz(x.to(compute_dtype(compute, x.scalar_type())), o).to(x.scalar_type());
  };
}

}  // namespace

std::optional<TrajectoryClaim> claim_trajectory(const std::string& optimizer, const Value& hyper,
                                                ComputeDtype compute) {
  if (optimizer == "torch.optim.Adam")
    return TrajectoryClaim{{{"any", adam(adam_options<AdamOptions>(hyper, "betas", "eps")), 1.0}}};
  if (optimizer == "torch.optim.AdamW")
    return TrajectoryClaim{{{"any", adamw(adam_options<AdamwOptions>(hyper, "betas", "eps")), 1.0}}};
  if (optimizer == "Muon (Keller Jordan)") return jordan(hyper, compute);
  if (optimizer == "torch.optim.Muon") return torch_muon(hyper, compute);
  if (optimizer == "Muon (Moonlight)") return moonlight(hyper, compute);
  if (optimizer == "HTMuon (SVD)") return htmuon_svd(hyper);
  return std::nullopt;
}

std::optional<Map> claim_map(const std::string& optimizer, const Value& hyper, ComputeDtype compute) {
  if (optimizer.starts_with("quintic Newton-Schulz") || optimizer.starts_with("cubic Newton-Schulz"))
    return quintic(hyper, compute);
  if (optimizer == "exact polar factor") return [](const Tensor& x) { return spectral_power_svd(x, 0); };
  if (optimizer == "spectral power U S^p V^T")
    return [p = hyper.at("power").as_real()](const Tensor& x) { return spectral_power_svd(x, p); };
  return std::nullopt;
}

}  // namespace schatten::testing
