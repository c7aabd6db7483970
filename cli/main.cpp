#include <schatten/core/error.h>
#include <schatten/train/environment.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "cli/commands.h"

namespace {

// A signal handler can reach nothing else.
std::atomic<bool> stop_requested{false};

void on_interrupt(int signal) {
  if (stop_requested.exchange(true)) std::_Exit(128 + signal);  // the second Ctrl-C means it
}

/// libgomp reads its settings when it is loaded, so they are set for a second start of this program. By default its
/// threads spin for milliseconds at every barrier, which costs ten times the run and more as soon as anything else wants
/// a core; 5000 turns are as fast on a quiet machine.
void start_again_with_patient_threads(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  ::setenv("GOMP_SPINCOUNT", "5000", 0);
  ::execv("/proc/self/exe", argv);  // where that is not to be had the run is slower, not wrong
}

int run(int argc, char** argv) {
  using namespace schatten;
  cli::Context context{.command = {argv, argv + argc}, .stop = stop_requested};
  std::error_code none;
  context.program = std::filesystem::read_symlink("/proc/self/exe", none).string();
  CLI::App app{"Schatten: a laboratory for matrix optimizers. Train, compare, explain.", "schatten"};
  app.set_version_flag("--version", schatten_version());
  app.require_subcommand(1);
  app.footer(
      "First steps:\n"
      "  schatten train                          a small LLaMA on Python source, with Muon\n"
      "  schatten campaign examples/first_look.toml\n"
      "  schatten recipes htmuon                 formula, paper, options, state\n"
      "  schatten doctor                         what this machine offers\n\n"
      "Exit codes: 0 fine, 1 failed, 2 usage, 130 interrupted.");
  cli::add_train(app, context);
  cli::add_campaign(app, context);
  cli::add_report(app, context);
  cli::add_sample(app, context);
  cli::add_recipes(app, context);
  cli::add_data(app, context);
  cli::add_bench(app, context);
  cli::add_doctor(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? cli::fine : cli::usage;
  }
  return context.exit;
}

}  // namespace

int main(int argc, char** argv) {
  start_again_with_patient_threads(argv);
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const schatten::UsageError& error) {
    std::cerr << error.what() << "\n";
    return schatten::cli::usage;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const bool trace = std::getenv("SCHATTEN_TRACE") != nullptr;  // torch appends its own stack to messages
    std::cerr << (trace ? text : text.substr(0, text.find("\nException raised from"))) << "\n";
    return schatten::cli::failed;
  }
}
