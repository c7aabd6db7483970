#include <schatten/train/recipe_help.h>

#include <iostream>
#include <memory>

#include "cli/commands.h"

namespace schatten::cli {

void add_recipes(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("recipes", "the optimizers: formula, paper, options, state");
  const auto name = std::make_shared<std::string>(), preset = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false), polynomials = std::make_shared<bool>(false);
  const auto stages = std::make_shared<bool>(false);
  command->add_option("name", *name, "explain this one");
  command->add_option("--memory", *preset, "bytes of state per recipe for a model preset");
  command->add_flag("--schedules", *polynomials, "the polynomial schedules of Newton-Schulz: margin, band, source");
  command->add_flag("--stages", *stages, "the stages of chains, with their options: a line of JSON each");
  command->add_flag("--json", *json, "everything about them, a line of JSON each");
  command->footer("Examples:\n  schatten recipes\n  schatten recipes muon\n  schatten recipes --memory llama-60m");
  command->callback([name, preset, json, polynomials, stages] {
    if (*polynomials) {
      print_schedules();
    } else if (*stages) {
      for (const StageInfo& s : stage_registry()) std::cout << to_json(described(s)) << "\n";
    } else if (!preset->empty()) {
      print_recipe_memory(*preset);
    } else if (*json) {
      if (!name->empty()) recipe_info(Value(*name));  // unknown: an error, not silence
      for (const RecipeInfo& r : recipe_registry())
        if (name->empty() || r.name == *name) std::cout << to_json(described(r)) << "\n";
    } else if (name->empty()) {
      print_recipes();
    } else {
      explain_recipe(*name);
    }
  });
}

}  // namespace schatten::cli
