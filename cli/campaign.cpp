#include <schatten/campaign/runner.h>
#include <schatten/core/error.h>
#include <schatten/report/report.h>

#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

struct Options {
  std::string config;
  std::vector<std::string> settings;
  int jobs = 1;
  bool json = false, fresh = false;
};

int run(const Options& o, const Context& context) {
  const CampaignConfig config = read_campaign_config(load_config(o.config, o.settings));
  const CampaignResult result =
      run_campaign(config, {.jobs = o.jobs, .json = o.json, .program = context.program}, context.stop);
  if (result.interrupted) return interrupted;
  const ReportFiles files = write_report({config.directory});
  if (!o.json) std::cout << "report  " << files.html.string() << "\n";
  return result.failed > 0 ? failed : fine;
}

}  // namespace

void add_campaign(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("campaign", "grid x seeds: tune, repeat with fresh seeds, claim or decline");
  const auto o = std::make_shared<Options>();
  command->add_option("config", o->config, "campaign file (TOML)")->required();
  command->add_option("--set", o->settings, "override a key: --set base.train.steps=100")->allow_extra_args(false);
  command->add_option("--jobs", o->jobs, "runs at a time; they share the threads")->check(CLI::Range(1, 256));
  command->add_flag("--json", o->json, "one JSON object per finished run on stdout, then the results");
  command->footer(
      "Finished runs are skipped and killed ones resumed: the same command goes on.\n\n"
      "Example:\n  schatten campaign examples/first_look.toml --jobs 2");
  command->callback([o, &context] { context.exit = run(*o, context); });
}

}  // namespace schatten::cli
