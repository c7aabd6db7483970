#include <schatten/recipe/recipe.h>

namespace schatten {

Value to_value(const Recipe& recipe) {
  Value table = Value::table();
  table["name"] = recipe.name;
  table["direction"] = recipe.direction.to_value();
  table["decay"] = write_fields(recipe.decay);
  return table;
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
