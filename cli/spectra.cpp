#include <schatten/train/weight_spectra.h>

#include <iostream>
#include <memory>

#include "cli/commands.h"

namespace schatten::cli {

void add_spectra(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("spectra", "singular values, ranks and power laws of the weights in a file");
  struct Asked {
    std::string path, other, fit = "goodness_of_fit";
    ColumnsOptions options;
    bool json = false;
  };
  const auto asked = std::make_shared<Asked>();
  command->add_option("weights", asked->path, "FILE.safetensors, an index, or a folder (a checkpoint)")->required();
  auto* other = command->add_option("other", asked->other, "below each row that of the same name in these");
  command->add_option("--fit", asked->fit, "where the tail starts: goodness_of_fit, median, fix_finger");
  command->add_option("--minimum", asked->options.minimum, "fewer eigenvalues give no alpha");
  command->add_flag_callback(
      "--shuffled", [asked] { asked->options.shuffled_seed = 0; }, "also of the same entries in random order");
  command->add_flag("--json", asked->json, "a line of JSON for every tensor")->excludes(other);
  command->footer(
      "Examples:\n  schatten spectra model.safetensors\n  schatten spectra runs/a/checkpoints/step-1000 --json");
  command->callback([asked] {
    read_field(Value(asked->fit), "spectra", "fit", asked->options.fit);
    const auto weights = weight_spectra(asked->path, asked->options);
    if (asked->json) {
      for (const WeightSpectrum& w : weights) std::cout << to_json(to_value(w)) << "\n";
    } else {
      using Others = std::vector<WeightSpectrum>;
      print_weight_spectra(weights, asked->other.empty() ? Others{} : weight_spectra(asked->other, asked->options));
    }
  });
}

}  // namespace schatten::cli
