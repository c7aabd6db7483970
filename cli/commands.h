// One file per subcommand: parse, call, print. Each adds itself to the program and leaves its exit code behind.
#pragma once
#include <schatten/core/value.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <atomic>
#include <string>
#include <vector>

namespace schatten::cli {

enum Exit { fine = 0, failed = 1, usage = 2, interrupted = 130 };

/// What commands share: who they are, and Ctrl-C.
struct Context {
  std::vector<std::string> program;  // the words that start this command line again
  std::vector<std::string> command;  // these and the arguments
  const std::atomic<bool>& stop;
  int exit = fine;
};

void add_train(CLI::App& app, Context& context);
void add_campaign(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);
void add_spectra(CLI::App& app, Context& context);
void add_sample(CLI::App& app, Context& context);
void add_recipes(CLI::App& app, Context& context);
void add_data(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);

/// A config file (or none) with `--set a.b=c` applied.
Value load_config(const std::string& file, const std::vector<std::string>& settings);

}  // namespace schatten::cli
