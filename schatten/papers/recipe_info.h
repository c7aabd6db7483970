// What the registry knows of a paper.
#pragma once
#include <schatten/papers/replay.h>
#include <schatten/recipe/recipe.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

enum class Group { elementwise, orthogonalizing, spectral_power, second_order, low_rank, layerwise };
constexpr auto enum_names(Group) {
  return std::to_array<std::string_view>(
      {"element-wise", "orthogonalising", "spectral power", "second-order", "low-rank", "layer-wise"});
}

struct RecipeInfo {
  std::string name;
  Group group = Group::elementwise;
  std::string summary;  // one line
  std::string formula;  // a few lines, as in the doc block
  std::string paper;    // reference and code
  std::string state;    // entries per m x n matrix, m <= n
  std::string tune;     // which options are worth tuning, and about where
  std::vector<Published> published{};
  std::vector<FieldHelp> options{};  // nested ones under dotted names
  std::function<Recipe(const Value& options)> make{};
};

/// Builds a registry row from an options struct and its recipe function.
template <HasFields Options>
RecipeInfo recipe_row(RecipeInfo row, Recipe (*make)(const Options&), Options (*defaults)(const Value&) = nullptr) {
  row.options = dotted_field_help<Options>();
  const std::string name = row.name;
  row.make = [name, make, defaults](const Value& table) {
    Options options = defaults ? defaults(table) : Options{};
    read_fields(table, options, name);
    return make(options);
  };
  return row;
}

}  // namespace schatten
