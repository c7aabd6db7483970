#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>

#include <cmath>

namespace schatten {

const std::vector<RecipeInfo>& recipe_registry() {
  static const std::vector<RecipeInfo> registry{sgd_info(), adam_info(), adamw_info(), muon_info(), htmuon_info()};
  return registry;
}

const RecipeInfo& recipe_info(const Value& name) {
  std::vector<std::string> known;
  for (const RecipeInfo& info : recipe_registry()) {
    if (name.is_string() && info.name == name.as_string()) return info;
    known.push_back(info.name);
  }
  fail_enum(name, "", "recipe", known);
}

namespace {

Value without_route_keys(const Value& table) {
  Value rest = Value::table();
  rest.origin = table.origin;
  for (const auto& [key, value] : table.as_table())
    if (key != "lr" && key != "match" && key != "recipe") rest[key] = value;
  return rest;
}

struct ExplicitRecipe {
  std::string name = "custom";
  Value direction;
  Decay decay;
  void fields(auto&& visit) {
    visit("name", name, "label");
    visit("direction", direction, "a stage or a chain of stages");
    visit("decay", decay, "what happens to W beside the update");
  }
};

}  // namespace

Recipe make_recipe(const Value& table) {
  const Value rest = without_route_keys(table);
  if (const Value* name = table.find("recipe")) return recipe_info(*name).make(rest);
  if (!table.find("direction"))
    fail_usage({"recipe", "the key 'recipe' (a name) or 'direction' (a stage or chain)", to_json(table),
                "For example { recipe = \"muon\", lr = 0.02 }; `schatten recipes` lists them."});
  ExplicitRecipe made;
  read_fields(rest, made, "recipe");
  return {made.name, make_stage(made.direction), make_decay(made.decay.form, made.decay.weight_decay)};
}

Route make_route(const Value& table, std::string match) {
  if (const Value* given = table.find("match")) match = given->as_string();
  if (match.empty())
    fail_usage({"route", "the key 'match' (a role, 'any', or a pattern of names)", to_json(table), ""});
  Recipe recipe = make_recipe(table);
  const Value* lr = table.find("lr");
  if (!lr) fail_usage({"route '" + match + "'", "the key 'lr'", to_json(table), "For example lr = 0.02."});
  const double rate = lr->as_real();
  if (!std::isfinite(rate) || rate < 0) {
    const std::string where = lr->origin.to_string();
    fail_usage({where.empty() ? "route '" + match + "'" : where, "lr finite and >= 0",
                std::isnan(rate) ? "nan" : to_json(*lr), ""});
  }
  return {std::move(match), std::move(recipe), rate};
}

}  // namespace schatten
