#include <schatten/core/error.h>
#include <schatten/train/terminal.h>
#include <schatten/train/terminal_reporter.h>
#include <schatten/train/trainer.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

struct Options {
  std::string config, run_dir, init_from;
  std::vector<std::string> settings;
  bool resume = false, resume_or_start = false, json = false, quiet = false, concurrent = false, keys = false;
};

RunConfig run_config(const Options& o) {
  Value table = load_config(o.config, o.settings);
  const std::filesystem::path own = std::filesystem::path(o.run_dir) / "config.toml";
  if (o.resume && o.config.empty() && std::filesystem::exists(own)) {  // a run directory knows its own config
    Value there = load_toml(own);
    merge(there, table);
    table = there;
  }
  RunConfig config = read_run_config(table);
  if (!o.run_dir.empty()) config.run_dir = o.run_dir;
  if (!o.init_from.empty()) config.model.init_from = o.init_from;
  return config;
}

int list_keys() {
  for (const FieldHelp& key : dotted_field_help<RunConfig>())
    std::cout << pad(key.name, 26) << " " << pad(key.value, 14) << " " << key.help << "\n";
  return fine;
}

int run(const Options& o, const Context& context) {
  if (o.keys) return list_keys();
  const RunConfig config = run_config(o);
  TrainRequest request{.concurrent = o.concurrent, .command = context.command};
  if (o.resume) request.start = Start::resume;
  if (o.resume_or_start) request.start = Start::resume_or_start;
  const std::unique_ptr<Reporter> reporter = o.json    ? make_json_reporter()
                                             : o.quiet ? std::make_unique<Reporter>()
                                                       : make_terminal_reporter(config);
  const TrainResult result = train(config, request, *reporter, context.stop);
  if (result.status == "interrupted") return interrupted;
  return result.status == "ok" ? fine : failed;
}

}  // namespace

void add_train(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("train", "one run, into a run directory");
  const auto o = std::make_shared<Options>();
  command->add_option("config", o->config, "TOML file; without one the defaults hold");
  command->add_option("--set", o->settings, "override a key: --set optimizer.matrix.lr=0.03")->allow_extra_args(false);
  command->add_option("--run-dir", o->run_dir, "where results go (default runs/NAME-HASH)");
  command->add_option("--init-from", o->init_from, "start from these weights (.safetensors or a run directory)");
  auto* resume = command->add_flag("--resume", o->resume, "go on from the newest checkpoint");
  command->add_flag("--resume-or-start", o->resume_or_start, "the same, or start when there is none")->excludes(resume);
  command->add_flag("--json", o->json, "records of metrics.jsonl on stdout, and nothing else");
  command->add_flag("--quiet", o->quiet, "no output but errors");
  command->add_flag("--keys", o->keys, "list every key of a config, its default and meaning; train nothing");
  command->add_flag("--concurrent", o->concurrent, "record that other runs share the machine");
  command->footer(
      "Examples:\n"
      "  schatten train --set train.steps=200\n"
      "  schatten train my.toml --set 'optimizer.matrix={recipe=\"htmuon\",lr=0.03,power=0.25}'\n"
      "  schatten train --resume --run-dir runs/muon-3f2a");
  command->callback([o, &context] { context.exit = run(*o, context); });
}

}  // namespace schatten::cli
