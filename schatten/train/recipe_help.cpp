#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/engine/optimizer.h>
#include <schatten/linalg/mixture_power.h>
#include <schatten/models/language_model.h>
#include <schatten/papers/controllers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/spectral_power.h>
#include <schatten/train/recipe_help.h>
#include <schatten/train/terminal.h>

#include <cctype>
#include <cstdio>
#include <iostream>

namespace schatten {

namespace {

/// "mr + 2rn", without what stands in brackets behind.
std::string short_state(const RecipeInfo& r) {
  for (size_t at = r.state.find(" ("); at != std::string::npos; at = r.state.find(" (", at + 1))
    if (std::isalpha(static_cast<unsigned char>(r.state[at + 2])) != 0) return r.state.substr(0, at);
  return r.state;
}

/// The last column is broken where the terminal ends.
void print_row(const std::string& head, const std::string& text) {
  std::cout << head << wrapped(text, display_width(head), static_cast<size_t>(terminal_width(stdout))) << "\n";
}

void print_options(const std::vector<FieldHelp>& options) {
  size_t names = 0;
  for (const FieldHelp& o : options) names = std::max(names, display_width(o.name));
  for (const FieldHelp& o : options) print_row("    " + pad(o.name, names + 2) + pad(o.value, 16) + " ", o.help);
}

void print_parts() {
  std::cout << "\n";
  print_row(
      "",
      "State is entries per m x n matrix, m <= n. `schatten recipes NAME` explains one, `--memory PRESET` says what "
      "each keeps for a model. Stages for chains of your own:");
  for (const StageInfo& s : stage_registry()) print_row("  " + pad(s.name, 23), s.summary);
  std::cout << "\nbeside any recipe\n";
  print_row("  decay                  ", "decoupled, after, coupled, cautious, cautious_squared");
  print_row("  cautious = true        ", "a mask: only entries that go where the gradient goes");
  print_row("  retract                ",
            "unit rows or columns: project, tangent, geodesic_fixed, geodesic_scaled; every k steps");
  for (const ControllerInfo& c : controller_registry())
    print_row("  " + pad(c.name, 23), c.summary + " (a controller)");
  std::cout << "\naround a whole run\n";
  print_row("  optimizer.sam.rho      ", "the gradient at the worst point nearby: SAM, adaptive SAM");
  print_row("  optimizer.average      ", "evaluate an average of the weights");
}

/// What the fast methods promise per interval, at the default power.
void print_power_errors() {
  const SpectralPower o;
  const auto row = [](const char* method, double error, double interval, const char* rest) {
    std::printf("    %-26s <= %.2g %% above %.2g %% of sigma_max%s\n", method, 100 * error, 100 * interval, rest);
  };
  std::printf("\n  error at power = %g\n", o.power);
  for (const auto& [interval, poles] : {std::pair{1e-2, 3}, std::pair{o.interval, o.poles}}) {
    const RationalPower fit = fit_rational_power(o.power, interval, poles);
    const std::string method = "rational, " + std::to_string(poles) + " poles";
    row(method.c_str(), fit.error, interval, interval == o.interval ? " (the default)" : "");
  }
  for (const double interval : {1e-2, 1e-3}) {
    const MixturePower f = mixture_power(o.power, interval);
    row("mixture, 6 steps", f.error, f.interval, "");
  }
  std::printf("  linear to 0 below; deflate moves sigma_max down to what is left of the spectrum\n");
  std::fflush(stdout);
}

}  // namespace

void print_recipes() {
  std::string heading;
  for (const RecipeInfo& r : recipe_registry()) {
    if (const std::string group(enum_name(r.group)); group != heading)
      std::cout << (heading.empty() ? "" : "\n") << pad(heading = group, 20) << "state\n";
    print_row("  " + pad(r.name, 18) + pad(short_state(r), 24), r.summary);
  }
  print_parts();
}

void explain_recipe(const std::string& name) {
  const RecipeInfo& r = recipe_info(Value(name));
  print_row("", r.name + ": " + r.summary);
  std::cout << "\n";
  print_row("  ", r.formula);
  std::cout << "\n";
  print_row("  source   ", r.paper);
  print_row("  state    ", r.state);
  print_row("  tune     ", r.tune);
  std::cout << "\n  options (default)\n";
  print_options(r.options);
  if (r.name == "htmuon") print_power_errors();
  std::cout << "\n  as a chain\n" << to_toml(to_value(r.make(Value::table())));
}

/// Matrices by the recipe, everything else by AdamW: what training allocates in float32.
void print_recipe_memory(const std::string& preset) {
  ModelOptions model;
  model.preset = preset;
  const Architecture architecture = resolve_architecture(model, 256);
  const std::vector<ParameterInfo> infos = parameter_infos(architecture);
  const auto entries = static_cast<double>(num_parameters(architecture));
  const auto bytes_of = [&](const RecipeInfo& r) {
    return plan_state_bytes(
        infos,
        {{"hidden_matrix", r.make(Value::table()), 1.0}, {"any", make_recipe(Value::Table{{"recipe", "adamw"}}), 1.0}},
        at::kFloat);
  };
  const auto adamw = static_cast<double>(bytes_of(recipe_info(Value("adamw"))));
  std::cout << preset << ": " << format_count(static_cast<int64_t>(entries)) << " parameters (vocabulary "
            << architecture.vocab << "); hidden matrices by the recipe, the rest by AdamW; state in float32\n\n"
            << "recipe              bytes of state   per parameter   of AdamW\n";
  for (const RecipeInfo& r : recipe_registry()) {
    const int64_t bytes = bytes_of(r);
    std::printf("%-18s %15lld %15.2f %9.0f %%\n", r.name.c_str(), static_cast<long long>(bytes),
                static_cast<double>(bytes) / entries, 100 * static_cast<double>(bytes) / adamw);
    std::fflush(stdout);
    std::cout.flush();
  }
}

/// Where each schedule brings singular values from, and to.
void print_schedules() {
  std::cout << "schedule        steps  margin  1e-3 to   [0.01, 1] to      source\n";
  for (const std::string& name : polynomial_schedule_names()) {
    const PolynomialSchedule s = polynomial_schedule(name);
    std::printf("%-15s %5zu %7.2f  %7.4f   %6.4f .. %6.4f  %s%s\n", name.c_str(), s.coefficients.size(), s.norm_margin,
                s(1e-3), s.band[0], s.band[1], s.source.c_str(),
                s.preconditioner == Preconditioner::aol ? " (after AOL scaling)" : "");
  }
  std::fflush(stdout);
}

namespace {

Value described(const std::vector<FieldHelp>& options) {
  Value list = Value::array();
  for (const FieldHelp& o : options)
    list.push_back(Value::Table{{"name", o.name}, {"default", o.value}, {"help", o.help}});
  return list;
}

}  // namespace

Value described(const StageInfo& s) {
  return Value::Table{{"name", s.name}, {"summary", s.summary}, {"options", described(s.options)}};
}

Value described(const RecipeInfo& r) {
  Value published = Value::array();
  for (const Published& p : r.published) published.push_back(p.optimizer);
  return Value::Table{{"name", r.name},
                      {"group", std::string(enum_name(r.group))},
                      {"summary", r.summary},
                      {"formula", r.formula},
                      {"paper", r.paper},
                      {"state", r.state},
                      {"tune", r.tune},
                      {"options", described(r.options)},
                      {"published", std::move(published)},
                      {"recipe", to_value(r.make(Value::table()))}};
}

}  // namespace schatten
