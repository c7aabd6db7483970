#include <ATen/ATen.h>
#include <schatten/papers/registry.h>
#include <schatten/train/trainer.h>

namespace schatten {

namespace {

bool has_field(const std::vector<FieldHelp>& options, std::string_view name) {
  return std::any_of(options.begin(), options.end(), [&](const FieldHelp& o) { return o.name == name; });
}

/// Where a recipe has a spectral iteration and says nothing of its dtype, the config's `compute` holds.
Value with_compute(const Value& table, ComputeDtype compute) {
  const Value* name = table.find("recipe");
  if (compute == ComputeDtype::automatic || !name) return table;
  const auto& options = recipe_info(*name).options;
  Value copy = table;
  if (has_field(options, "compute") && !table.find("compute")) copy["compute"] = enum_name(compute);
  if (has_field(options, "polar.compute"))
    if (Value& polar = copy["polar"]; !polar.is_table() || !polar.find("compute"))
      polar["compute"] = enum_name(compute);
  return copy;
}

}  // namespace

std::vector<Route> make_routes(const OptimizerConfig& config) {
  std::vector<Route> routes;
  if (!config.routes.is_null()) {
    if (config.routes.as_array().empty())
      fail_usage({"optimizer.routes", "at least one rule", "none",
                  "Leave it out to use optimizer.matrix and optimizer.auxiliary."});
    for (const Value& table : config.routes.as_array())
      routes.push_back(make_route(with_compute(table, config.compute)));
    return routes;
  }
  routes.push_back(make_route(with_compute(config.matrix, config.compute), "hidden_matrix"));
  routes.push_back(make_route(with_compute(config.auxiliary, config.compute), "any"));
  return routes;
}

}  // namespace schatten
