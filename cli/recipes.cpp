#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/engine/optimizer.h>
#include <schatten/models/language_model.h>
#include <schatten/papers/controllers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/spectral.h>
#include <schatten/train/terminal.h>

#include <cstdio>
#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

void print_options(const std::vector<FieldHelp>& options) {
  for (const FieldHelp& o : options)
    std::cout << "    " << pad(o.name, 16) << pad(o.value, 16) << " " << o.help << "\n";
}

/// "mr + 2rn", without what stands in brackets behind.
std::string short_state(const RecipeInfo& r) { return r.state.substr(0, r.state.find(" (")); }

void print_parts() {
  std::cout << "\nState is entries per m x n matrix, m <= n. `schatten recipes NAME` explains one, `schatten recipes "
               "--memory PRESET`\n"
               "says what each keeps for a model. Stages for chains of your own:\n";
  for (const StageInfo& s : stage_registry()) std::cout << "  " << pad(s.name, 22) << s.summary << "\n";
  std::cout << "\nBeside any recipe: decay (decoupled, after, coupled, cautious, cautious_squared), cautious = true (a "
               "mask),\n"
               "retract = { form = \"project\" | \"tangent\" | \"geodesic_fixed\" | \"geodesic_scaled\", every = k }, "
               "and controllers:\n";
  for (const ControllerInfo& c : controller_registry()) std::cout << "  " << pad(c.name, 22) << c.summary << "\n";
  std::cout << "Around a whole run: optimizer.sam.rho (SAM, adaptive SAM), optimizer.average (averaged weights).\n";
}

void list() {
  std::string heading;
  for (const RecipeInfo& r : recipe_registry()) {
    if (const std::string group(enum_name(r.group)); group != heading)
      std::cout << (heading.empty() ? "" : "\n") << pad(heading = group, 40) << "state\n";
    std::cout << "  " << pad(r.name, 18) << pad(short_state(r), 21) << r.summary << "\n";
  }
  print_parts();
}

void explain(const std::string& name) {
  const RecipeInfo& r = recipe_info(Value(name));
  std::cout << r.name << ": " << r.summary << "\n\n  " << r.formula << "\n\n  source   " << r.paper << "\n  state    "
            << r.state << "\n  tune     " << r.tune << "\n\n  options (default)\n";
  print_options(r.options);
  if (r.name == "htmuon") {
    const SpectralPower o;
    const RationalPower fit = fit_rational_power(o.power, o.interval, o.poles);
    std::printf("\n  rational at the defaults: error <= %.2f %% above %.1f %% of sigma_max, linear to 0 below\n",
                100 * fit.error, 100 * fit.interval);
    std::fflush(stdout);
  }
  std::cout << "\n  as a chain\n" << to_toml(to_value(r.make(Value::table())));
}

/// Matrices by the recipe, everything else by AdamW: what training allocates in float32.
void memory(const std::string& preset) {
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
void schedules() {
  std::cout << "schedule        steps  margin  1e-3 to   [0.01, 1] to      source\n";
  for (const std::string& name : polynomial_schedule_names()) {
    const PolynomialSchedule s = polynomial_schedule(name);
    std::printf("%-15s %5zu %7.2f  %7.4f   %6.4f .. %6.4f  %s%s\n", name.c_str(), s.coefficients.size(), s.norm_margin,
                s(1e-3), s.band[0], s.band[1], s.source.c_str(),
                s.preconditioner == Preconditioner::aol ? " (after AOL scaling)" : "");
  }
  std::fflush(stdout);
}

Value described(const RecipeInfo& r) {
  Value options = Value::array();
  for (const FieldHelp& o : r.options)
    options.push_back(Value::Table{{"name", o.name}, {"default", o.value}, {"help", o.help}});
  Value published = Value::array();
  for (const Published& p : r.published) published.push_back(p.optimizer);
  return Value::Table{{"name", r.name},
                      {"group", std::string(enum_name(r.group))},
                      {"summary", r.summary},
                      {"formula", r.formula},
                      {"paper", r.paper},
                      {"state", r.state},
                      {"tune", r.tune},
                      {"options", std::move(options)},
                      {"published", std::move(published)},
                      {"recipe", to_value(r.make(Value::table()))}};
}

}  // namespace

void add_recipes(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("recipes", "the optimizers: formula, paper, options, state");
  const auto name = std::make_shared<std::string>(), preset = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false), polynomials = std::make_shared<bool>(false);
  command->add_option("name", *name, "explain this one");
  command->add_option("--memory", *preset, "bytes of state per recipe for a model preset");
  command->add_flag("--schedules", *polynomials, "the polynomial schedules of Newton-Schulz: margin, band, source");
  command->add_flag("--json", *json, "everything about them, a line of JSON each");
  command->footer("Examples:\n  schatten recipes\n  schatten recipes muon\n  schatten recipes --memory llama-60m");
  command->callback([name, preset, json, polynomials] {
    if (*polynomials) {
      schedules();
    } else if (!preset->empty()) {
      memory(*preset);
    } else if (*json) {
      if (!name->empty()) recipe_info(Value(*name));  // unknown: an error, not silence
      for (const RecipeInfo& r : recipe_registry())
        if (name->empty() || r.name == *name) std::cout << to_json(described(r)) << "\n";
    } else if (name->empty()) {
      list();
    } else {
      explain(*name);
    }
  });
}

}  // namespace schatten::cli
