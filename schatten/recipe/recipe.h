// Recipe: what a paper is. A recipe is data; it knows no engine.
#pragma once
#include <schatten/parameters/decay.h>
#include <schatten/parameters/retraction.h>
#include <schatten/recipe/controller.h>
#include <schatten/stages/stage.h>

#include <string>
#include <vector>

namespace schatten {

/// W <- retract(decay(W) - lr * direction(G)), then what the controllers do to all of them together.
struct Recipe {
  std::string name;
  Stage direction;
  Decay decay{};
  Retraction retract{};
  std::vector<Controller> controllers{};
};

/// Refuses what cannot be combined, with the reason: decay before a geodesic step, AlphaDecay without a decay.
void check_recipe(const Recipe& recipe);
/// Refuses a recipe for this parameter: one of matrices for a vector, a rank larger than the matrix.
void check_recipe_for(const Recipe& recipe, const ParameterInfo& parameter);

/// {name, direction, decay, ...}: a recipe printed as an explicit chain of stages; make_recipe reads it back.
Value to_value(const Recipe& recipe);

/// Which parameters a recipe gets, and at what rate. `match` is a role (hidden_matrix, embedding, head,
/// gain, bias, conv), "any", or a glob of parameter names.
struct Route {
  std::string match;
  Recipe recipe;
  double lr;
};

/// For each parameter the index of its route: first match wins. A parameter without a route and a route
/// without a parameter are errors that list both.
std::vector<size_t> assign_routes(const std::vector<Route>& routes, const std::vector<ParameterInfo>& parameters);

/// True when `pattern` (with * and ?) covers the whole of `text`.
bool matches_glob(std::string_view pattern, std::string_view text);

}  // namespace schatten
