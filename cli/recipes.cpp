#include <schatten/core/error.h>
#include <schatten/core/files.h>
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

void list() {
  std::cout << "recipe    state    what it is\n";
  for (const RecipeInfo& r : recipe_registry())
    std::cout << pad(r.name, 10) << pad(r.state.substr(0, r.state.find(' ')), 9) << r.summary << "\n";
  std::cout
      << "\nState is entries per m x n matrix. `schatten recipes NAME` explains one. Stages for chains of your own:\n";
  for (const StageInfo& s : stage_registry()) std::cout << "  " << pad(s.name, 18) << s.summary << "\n";
}

void explain(const std::string& name) {
  const RecipeInfo& r = recipe_info(Value(name));
  std::cout << r.name << ": " << r.summary << "\n\n  " << r.formula << "\n\n  source   " << r.paper << "\n  state    "
            << r.state << "\n\n  options (default)\n";
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

}  // namespace

void add_recipes(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("recipes", "the optimizers: formula, paper, options, state");
  const auto name = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  command->add_option("name", *name, "explain this one");
  command->add_flag("--json", *json, "names and chains as JSON");
  command->footer("Examples:\n  schatten recipes\n  schatten recipes muon");
  command->callback([name, json] {
    if (*json) {
      for (const RecipeInfo& r : recipe_registry())
        if (name->empty() || r.name == *name) std::cout << to_json(to_value(r.make(Value::table()))) << "\n";
    } else if (name->empty()) {
      list();
    } else {
      explain(*name);
    }
  });
}

}  // namespace schatten::cli
