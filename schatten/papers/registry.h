// Every recipe by name. A new paper adds its file and one line in registry.cpp.
#pragma once
#include <schatten/recipe/recipe.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

struct RecipeInfo {
  std::string name;
  std::string summary;  // one line
  std::string formula;  // a few lines, as in the doc block
  std::string paper;    // reference and code
  std::string state;    // per m x n matrix
  std::vector<FieldHelp> options;
  std::function<Recipe(const Value& options)> make;
};

const std::vector<RecipeInfo>& recipe_registry();
const RecipeInfo& recipe_info(const Value& name);  // unknown: UsageError with the nearest name

/// {recipe = "muon", option = ...} or an explicit {name, direction = {chain = [...]}, decay = {...}}.
/// The keys `lr` and `match` belong to the route and are ignored here.
Recipe make_recipe(const Value& table);

/// {match, recipe, lr, options...}. lr must be given, finite and >= 0.
Route make_route(const Value& table, std::string match = "");

/// Builds a registry row from an options struct and its recipe function.
template <HasFields Options>
RecipeInfo recipe_row(RecipeInfo row, Recipe (*make)(const Options&), Options (*defaults)(const Value&) = nullptr) {
  row.options = field_help<Options>();
  const std::string name = row.name;
  row.make = [name, make, defaults](const Value& table) {
    Options options = defaults ? defaults(table) : Options{};
    read_fields(table, options, name);
    return make(options);
  };
  return row;
}

}  // namespace schatten
