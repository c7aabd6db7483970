// Every recipe by name. A new paper adds its file and its lines in papers.h.
#pragma once
#include <schatten/papers/recipe_info.h>

#include <string>
#include <vector>

namespace schatten {

const std::vector<RecipeInfo>& recipe_registry();
const RecipeInfo& recipe_info(const Value& name);  // unknown: UsageError with the nearest name

/// {recipe = "muon", option = ...} or an explicit {name, direction = {chain = [...]}, decay = {...}}.
/// Beside either: `retract = {form = "project"}`, `controllers = [{controller = "qk_clip"}]`, `cautious = true`.
/// The keys `lr` and `match` belong to the route and are ignored here.
Recipe make_recipe(const Value& table);

/// {match, recipe, lr, options...}. lr must be given, finite and >= 0.
Route make_route(const Value& table, std::string match = "");

}  // namespace schatten
