#include <schatten/recipe/recipe.h>

namespace schatten {

Value to_value(const Recipe& recipe) {
  Value table = Value::table();
  table["name"] = recipe.name;
  table["direction"] = recipe.direction.to_value();
  table["decay"] = write_fields(recipe.decay);
  if (recipe.retract.active()) table["retract"] = write_fields(recipe.retract);
  if (!recipe.controllers.empty()) {
    Value list = Value::array();
    for (const Controller& c : recipe.controllers) list.push_back(c.to_value());
    table["controllers"] = std::move(list);
  }
  return table;
}

void check_recipe(const Recipe& r) {
  if (r.retract.geodesic() && r.decay.active() && r.decay.form != DecayForm::coupled)
    fail_usage({"recipe '" + r.name + "'", "no weight decay with a geodesic step",
                "decay " + std::string(enum_name(r.decay.form)) + " with " + std::string(enum_name(r.retract.form)),
                "A geodesic starts from unit rows, decay shortens them: set weight_decay = 0, or retract by project."});
  for (const Controller& c : r.controllers) c.check(r.decay);
}

void check_recipe_for(const Recipe& r, const ParameterInfo& p) {
  if (p.shape.size() < 2 && !r.direction.traits().takes_vectors)
    fail_usage(
        {"routing", "'" + r.name + "', a recipe for matrices, to get matrices",
         "'" + p.name + "' of " + std::to_string(p.shape.size()) + " dimension" + (p.shape.size() == 1 ? "" : "s"),
         "Route vectors to an elementwise recipe: { match = \"any\", recipe = \"adamw\" } after the matrices."});
}

bool matches_glob(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

namespace {

bool matches(const Route& route, const ParameterInfo& p) {
  return route.match == "any" || route.match == to_string(p.role) || matches_glob(route.match, p.name);
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 4; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 4) text += " and " + std::to_string(names.size() - 4) + " more";
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<size_t> assign_routes(const std::vector<Route>& routes, const std::vector<ParameterInfo>& parameters) {
  std::vector<size_t> assigned;
  std::vector<bool> used(routes.size(), false);
  std::vector<std::string> unrouted, unused;
  for (const ParameterInfo& p : parameters) {
    size_t r = 0;
    while (r < routes.size() && !matches(routes[r], p)) ++r;
    if (r == routes.size()) unrouted.push_back(p.name + " (" + std::string(to_string(p.role)) + ")");
    else used[r] = true;
    assigned.push_back(r);
  }
  for (size_t r = 0; r < routes.size(); ++r)
    if (!used[r]) unused.push_back("'" + routes[r].match + "' -> " + routes[r].recipe.name);
  if (!unrouted.empty() || !unused.empty())
    fail_usage({"routing", "a rule for every parameter and a parameter for every rule",
                "without a rule: " + listed(unrouted) + "; rules without a parameter: " + listed(unused),
                "End with a rule for 'any', remove unused rules, or widen a pattern."});
  return assigned;
}

}  // namespace schatten
