#include <schatten/papers/adamw.h>
#include <schatten/papers/replay.h>

namespace schatten {

std::vector<Route> with_auxiliary(const Value& hyper, const char* names, const Recipe& aux, double factor,
                                  const Recipe& main) {
  std::vector<Route> routes;
  if (const Value* list = hyper.find(names))
    for (const Value& name : list->as_array()) routes.push_back({name.as_string(), aux, factor});
  routes.push_back({"any", main, 1.0});
  return routes;
}

std::vector<Route> with_auxiliary_adam(const Value& hyper, const Recipe& main) {
  if (!hyper.find("aux_params")) return {{"any", main, 1.0}};
  const AdamwOptions adam{.beta1 = beta(hyper, 0, "aux_betas"),
                          .beta2 = beta(hyper, 1, "aux_betas"),
                          .eps = real(hyper, "aux_eps"),
                          .weight_decay = real(hyper, "weight_decay")};
  return with_auxiliary(hyper, "aux_params", adamw(adam), real(hyper, "aux_lr_factor"), main);
}

Orthogonalize polar_of(const Value& hyper, QuinticRounding rounding, ComputeDtype compute) {
  Orthogonalize polar{.steps = static_cast<int>(integer(hyper, "ns_steps")),
                      .eps = hyper.real_or("eps", 1e-7),
                      .rounding = rounding,
                      .compute = compute};
  if (hyper.string_or("eps_mode", "add") == "clamp") polar.eps_mode = EpsMode::clamp;
  return polar;
}

}  // namespace schatten
