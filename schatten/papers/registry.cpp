#include <schatten/papers/controllers.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/registry.h>

#include <algorithm>
#include <cmath>

namespace schatten {

const std::vector<RecipeInfo>& recipe_registry() {
  static const std::vector<RecipeInfo> registry = all_papers();
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

Recipe named_or_explicit(const Value& table) {
  const Value rest = without(table, {"lr", "match", "recipe", "retract", "controllers", "cautious"});
  if (const Value* name = table.find("recipe")) return recipe_info(*name).make(rest);
  if (!table.find("direction"))
    fail_usage({"recipe", "the key 'recipe' (a name) or 'direction' (a stage or chain)", to_json(table),
                "For example { recipe = \"muon\", lr = 0.02 }; `schatten recipes` lists them."});
  ExplicitRecipe made;
  read_fields(rest, made, "recipe");
  return {.name = made.name,
          .direction = make_stage(made.direction),
          .decay = make_decay(made.decay.form, made.decay.weight_decay)};
}

}  // namespace

Recipe make_recipe(const Value& table) {
  Recipe recipe = named_or_explicit(table);
  bool masked = false;
  if (const Value* cautious_key = table.find("cautious")) read_field(*cautious_key, "recipe", "cautious", masked);
  if (masked) recipe.direction = chain({recipe.direction, cautious({})});
  if (const Value* retract = table.find("retract")) {
    read_fields(*retract, recipe.retract, "retract");
    recipe.retract = make_retraction(recipe.retract);
  }
  if (const Value* list = table.find("controllers"))
    for (const Value& item : list->as_array()) recipe.controllers.push_back(make_controller(item));
  check_recipe(recipe);
  return recipe;
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
