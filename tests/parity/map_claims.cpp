// Golden cases of one matrix in, one matrix out.
#include <ATen/ATen.h>
#include <schatten/linalg/released_power.h>

#include "parity/claims.h"

namespace schatten::testing {

namespace {

/// The file's own coefficients; tests/linalg ties the registered schedules to them.
NewtonSchulzOptions newton_schulz_options(const Value& hyper, QuinticRounding rounding) {
  NewtonSchulzOptions o{.eps = hyper.at("eps").as_real(), .rounding = rounding};
  if (hyper.string_or("eps_mode", "add") == "clamp") o.eps_mode = EpsMode::clamp;
  o.schedule.norm_margin = hyper.real_or("f", 1);
  for (const Value& abc : hyper.at("coefficients").as_array()) {
    const auto& c = abc.as_array();
    o.schedule.coefficients.push_back({c[0].as_real(), c[1].as_real(), c.size() > 2 ? c[2].as_real() : 0.0});
  }
  return o;
}

NewtonSchulzOptions gram_options(const Value& hyper) {
  NewtonSchulzOptions o = newton_schulz_options(hyper, QuinticRounding::fused);
  o.iteration = PolarIteration::gram;
  o.restarts = {0};  // none, but for those that are named
  for (const Value& t : hyper.at("reset_iterations").as_array()) o.restarts.push_back(t.as_integer());
  return o;
}

/// The map in the compute dtype, its result in the dtype of x.
Map computed(ComputeDtype compute, Map map) {
  return [compute, map = std::move(map)](const Tensor& x) {
    return map(x.to(compute_dtype(compute, x.scalar_type(), this_isa()))).to(x.scalar_type());
  };
}

std::optional<Map> polar(const std::string& optimizer, const Value& hyper) {
  const auto iterated = [](NewtonSchulzOptions o) {
    return [o = std::move(o)](const Tensor& x) { return newton_schulz(x, o); };
  };
  if (optimizer.starts_with("quintic Newton-Schulz") || optimizer.starts_with("cubic Newton-Schulz"))
    return iterated(newton_schulz_options(hyper, QuinticRounding::scaled_before));
  if (optimizer == "standard Newton-Schulz") return iterated(newton_schulz_options(hyper, QuinticRounding::fused));
  if (optimizer == "Gram Newton-Schulz") {
    // Without a restart mirrored triangles lose a digit more than full products: those are ATen's.
    const Isa isa = hyper.at("reset_iterations").as_array().empty() ? Isa::portable : this_isa();
    return [o = gram_options(hyper), isa](const Tensor& x) { return newton_schulz(x, o, isa); };
  }
  if (optimizer.starts_with("Polar Express (table"))
    return iterated(newton_schulz_options(hyper, QuinticRounding::scaled_after));
  if (optimizer.starts_with("Polar Express, paper table"))
    return iterated(newton_schulz_options(hyper, QuinticRounding::scaled_before));
  return std::nullopt;
}

std::optional<Map> released(const std::string& optimizer, const Value& hyper) {
  if (optimizer == "HTMuon_NS spectral power") {
    const ReleasedPower o{.power = hyper.at("power").as_real(),
                          .ns_steps = static_cast<int>(hyper.at("ns_steps").as_integer()),
                          .root_steps = static_cast<int>(hyper.at("root_ns_steps").as_integer()),
                          .eps = hyper.at("eps").as_real()};
    return [o](const Tensor& x) { return released_power_ns(x, o); };
  }
  if (optimizer == "HTMuon accv2")
    return [p = hyper.at("power").as_real(), steps = static_cast<int>(hyper.at("steps").as_integer())](
               const Tensor& x) { return released_power_accv2(x, p, steps); };
  if (optimizer == "HTMuon accv3 (Taylor roots)")
    return [p = hyper.at("power").as_real()](const Tensor& x) { return released_power_accv3(x, p); };
  if (optimizer == "HTMuon accv4") return [](const Tensor& x) { return released_power_accv4(x); };
  return std::nullopt;
}

}  // namespace

std::optional<Map> claim_map(const std::string& optimizer, const Value& hyper, ComputeDtype compute) {
  if (auto map = polar(optimizer, hyper)) return computed(compute, std::move(*map));
  if (auto map = released(optimizer, hyper)) return computed(compute, std::move(*map));
  if (optimizer == "exact polar factor") return [](const Tensor& x) { return spectral_power_svd(x, 0); };
  if (optimizer == "spectral power U S^p V^T")
    return [p = hyper.at("power").as_real()](const Tensor& x) { return spectral_power_svd(x, p); };
  return std::nullopt;
}

}  // namespace schatten::testing
