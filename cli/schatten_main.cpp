#include "cli/schatten_main.h"

#include <schatten/core/error.h>
#include <schatten/train/environment.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "cli/commands.h"

const char schatten_built[] = "schatten " SCHATTEN_VERSION " for torch " SCHATTEN_TORCH_VERSION;

namespace schatten::cli {

namespace {

// A signal handler can reach nothing else.
std::atomic<bool> stop_requested{false};

void on_interrupt(int signal) {
  if (stop_requested.exchange(true)) std::_Exit(128 + signal);  // the second Ctrl-C means it
}

/// Ours while it lives; whose they were before (Python's, say) comes back.
class Signals {
 public:
  Signals() {
    stop_requested = false;
    set(0, SIGINT, on_interrupt);
    set(1, SIGTERM, on_interrupt);
    set(2, SIGPIPE, SIG_IGN);
  }
  ~Signals() {
    for (const Before& b : before_) ::sigaction(b.signal, &b.action, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  struct Before {
    int signal;
    struct sigaction action;
  };
  void set(size_t at, int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    before_[at].signal = signal;
    ::sigaction(signal, &action, &before_[at].action);
  }

  Before before_[3]{};
};

int run(int argc, const char* const* argv, Context context) {
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
  add_train(app, context);
  add_campaign(app, context);
  add_report(app, context);
  add_spectra(app, context);
  add_sample(app, context);
  add_recipes(app, context);
  add_data(app, context);
  add_bench(app, context);
  add_doctor(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? fine : usage;
  }
  return context.exit;
}

int guarded(int argc, const char* const* argv, Context context) {
  try {
    return run(argc, argv, std::move(context));
  } catch (const UsageError& error) {
    std::cerr << error.what() << "\n";
    return usage;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const bool trace = std::getenv("SCHATTEN_TRACE") != nullptr;  // torch appends its own stack to messages
    std::cerr << (trace ? text : text.substr(0, text.find("\nException raised from"))) << "\n";
    return failed;
  }
}

}  // namespace

}  // namespace schatten::cli

int schatten_main(int argc, const char* const* argv, const char* const* program) {
  using namespace schatten::cli;
  const Signals ours;
  Context context{.program = {}, .command = {}, .stop = stop_requested};
  for (; *program; ++program) context.program.emplace_back(*program);
  context.command = context.program;
  context.command.insert(context.command.end(), argv + 1, argv + argc);
  const int code = guarded(argc, argv, std::move(context));
  std::cout.flush();
  std::fflush(nullptr);  // the caller may print next, by means of its own
  return code;
}
