#include <schatten/campaign/process.h>
#include <schatten/campaign/progress.h>
#include <schatten/campaign/results.h>
#include <schatten/campaign/runner.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/terminal.h>

#include <algorithm>
#include <iostream>
#include <thread>

namespace schatten {

namespace fs = std::filesystem;

namespace {

struct Running {
  const PlannedRun* plan;
  Process process;
};

class Runner {
 public:
  Runner(const CampaignConfig& campaign, const CampaignOptions& options, const std::atomic<bool>& stop)
      : campaign_(campaign), options_(options), stop_(stop), progress_(campaign, planned(), options.json) {}

  CampaignResult operator()();

 private:
  size_t planned() const {
    size_t points = 0;
    for (const Competitor& c : campaign_.optimizer) points += expand_grid(c.grid).size();
    return points * campaign_.tuning_seeds.size() + campaign_.optimizer.size() * campaign_.final_seeds.size();
  }
  int64_t steps() const {
    const Value* train = campaign_.base.find("train");
    return train ? train->integer_or("steps", TrainOptions{}.steps) : TrainOptions{}.steps;
  }
  std::vector<std::string> command(const PlannedRun& run) const;
  fs::path beside(const PlannedRun& run, const char* suffix) const {
    fs::path path = run.run_dir;
    path += suffix;
    return path;
  }
  bool already_done(const PlannedRun& run) const;
  void execute(const std::vector<PlannedRun>& runs);
  void collect(std::vector<Running>& running);
  void report_failure(const PlannedRun& run, int code);
  void finished(const PlannedRun& run, bool skipped);
  std::vector<PlannedRun> tuning_runs() const;
  std::vector<PlannedRun> final_runs(const std::vector<CompetitorOutcome>& outcomes) const;
  std::vector<CompetitorOutcome> tuning_outcomes() const;
  void write_plan(const std::vector<PlannedRun>& runs) const;

  const CampaignConfig& campaign_;
  const CampaignOptions& options_;
  const std::atomic<bool>& stop_;
  CampaignProgress progress_;
  int64_t failed_ = 0;
};

std::vector<std::string> Runner::command(const PlannedRun& run) const {
  std::vector<std::string> words = options_.program;
  words.insert(words.end(), {"train", beside(run, ".toml").string(), "--run-dir", run.run_dir.string(),
                             "--resume-or-start", "--quiet"});
  if (options_.jobs > 1) {
    const unsigned threads = std::max(1u, std::thread::hardware_concurrency() / static_cast<unsigned>(options_.jobs));
    words.insert(words.end(), {"--concurrent", "--set", "train.threads=" + std::to_string(threads)});
  }
  return words;
}

/// Finished well or diverged, and with this very config.
bool Runner::already_done(const PlannedRun& run) const {
  if (!fs::exists(run.run_dir / "config.toml")) return false;
  const std::string there = config_hash(read_run_config(load_toml(run.run_dir / "config.toml")));
  const std::string wanted = config_hash(read_run_config(run.config));
  if (there != wanted)
    fail_usage({run.run_dir.string(), "a run of this campaign (config " + wanted + ")",
                "one with another config (" + there + ")",
                "Remove " + campaign_.directory + ", or give the campaign another directory."});
  const std::string status = read_outcome(run).status;
  return status == "ok" || status == "diverged";
}

void Runner::finished(const PlannedRun& run, bool skipped) {
  const RunOutcome outcome = read_outcome(run);
  progress_.finished(outcome, skipped);
  if (!options_.json) return;
  std::cout << to_json(Value::Table{{"event", "run"},
                                    {"optimizer", run.optimizer},
                                    {"dir", run.run_dir.string()},
                                    {"seed", run.seed},
                                    {"status", outcome.status},
                                    {"val", outcome.validation},
                                    {"skipped", skipped}})
            << std::endl;
}

void Runner::report_failure(const PlannedRun& run, int code) {
  ++failed_;
  const std::string log = read_file(beside(run, ".log"));
  const std::string text = "failed (exit code " + std::to_string(code) + "): " + run.run_dir.string() + "\n  " +
                           log.substr(log.size() > 400 ? log.size() - 400 : 0);
  if (options_.json) std::cerr << text << std::endl;
  else progress_.print(text);
}

void Runner::collect(std::vector<Running>& running) {
  for (auto it = running.begin(); it != running.end();) {
    const auto code = it->process.poll();
    if (!code) {
      ++it;
      continue;
    }
    const std::string status = read_outcome(*it->plan).status;
    if (status != "ok" && status != "diverged" && !stop_) report_failure(*it->plan, *code);
    if (!stop_) finished(*it->plan, false);
    it = running.erase(it);
  }
}

void Runner::execute(const std::vector<PlannedRun>& runs) {
  std::vector<Running> running;
  size_t next = 0;
  while ((next < runs.size() && !stop_) || !running.empty()) {
    while (next < runs.size() && static_cast<int>(running.size()) < options_.jobs && !stop_) {
      const PlannedRun& run = runs[next++];
      if (already_done(run)) {
        finished(run, true);
        continue;
      }
      fs::create_directories(run.run_dir.parent_path());
      write_file_durably(beside(run, ".toml"), to_toml(run.config));
      progress_.started(run);
      running.push_back({&run, Process(command(run), beside(run, ".log"))});
    }
    collect(running);
    if (stop_)
      for (Running& r : running) r.process.interrupt();
    std::vector<const PlannedRun*> plans;
    for (const Running& r : running) plans.push_back(r.plan);
    progress_.draw(plans, steps());
    std::this_thread::sleep_for(std::chrono::milliseconds(stop_ ? 200 : 20));
  }
}

std::vector<PlannedRun> Runner::tuning_runs() const {
  std::vector<PlannedRun> runs;
  for (const int64_t seed : campaign_.tuning_seeds)
    for (const Competitor& c : campaign_.optimizer)
      for (const Point& p : expand_grid(c.grid)) runs.push_back(plan_run(campaign_, c, p, seed, Phase::tune));
  return runs;
}

std::vector<CompetitorOutcome> Runner::tuning_outcomes() const {
  std::vector<CompetitorOutcome> outcomes;
  for (const Competitor& c : campaign_.optimizer) {
    CompetitorOutcome o{.competitor = c, .points = expand_grid(c.grid)};
    for (const Point& p : o.points) {
      o.tuning.emplace_back();
      for (const int64_t seed : campaign_.tuning_seeds)
        o.tuning.back().push_back(read_outcome(plan_run(campaign_, c, p, seed, Phase::tune)));
    }
    o.best = best_point(o.tuning);
    outcomes.push_back(std::move(o));
  }
  return outcomes;
}

/// Seed by seed over all optimizers, so that what is done so far is always a fair comparison.
std::vector<PlannedRun> Runner::final_runs(const std::vector<CompetitorOutcome>& outcomes) const {
  std::vector<PlannedRun> runs;
  for (const int64_t seed : campaign_.final_seeds)
    for (const CompetitorOutcome& o : outcomes)
      if (o.best) runs.push_back(plan_run(campaign_, o.competitor, o.points[*o.best], seed, Phase::final));
  return runs;
}

void Runner::write_plan(const std::vector<PlannedRun>& runs) const {
  Value list = Value::array();
  for (const PlannedRun& r : runs) {
    Value point = Value::table();
    for (const auto& [key, value] : r.point) point[key] = value;
    list.push_back(Value::Table{{"dir", r.run_dir.lexically_relative(campaign_.directory).string()},
                                {"optimizer", r.optimizer},
                                {"point", point},
                                {"seed", r.seed},
                                {"phase", r.phase == Phase::tune ? "tune" : "final"}});
  }
  write_file_durably(fs::path(campaign_.directory) / "plan.json", to_pretty_json(Value::Table{{"runs", list}}) + "\n");
}

CampaignResult Runner::operator()() {
  fs::create_directories(campaign_.directory);
  write_file_durably(fs::path(campaign_.directory) / "campaign.toml", to_toml(write_fields(campaign_)));
  std::vector<PlannedRun> plan = tuning_runs();
  write_plan(plan);
  progress_.phase(std::to_string(campaign_.optimizer.size()) + " optimizers, " + std::to_string(plan.size()) +
                      " tuning runs, " + std::to_string(options_.jobs) + " at a time",
                  plan);
  execute(plan);
  std::vector<CompetitorOutcome> outcomes = tuning_outcomes();
  if (!stop_) {
    const std::vector<PlannedRun> finals = final_runs(outcomes);
    plan.insert(plan.end(), finals.begin(), finals.end());
    write_plan(plan);
    progress_.phase(std::to_string(finals.size()) + " final runs at the best rates, " +
                        std::to_string(campaign_.final_seeds.size()) + " fresh seeds",
                    finals);
    execute(finals);
  }
  progress_.erase();
  if (stop_) {
    std::cerr << "interrupted: finished runs are kept, running ones have saved; the same command goes on\n";
    return {.failed = failed_, .interrupted = true};
  }
  for (CompetitorOutcome& o : outcomes)
    for (const int64_t seed : campaign_.final_seeds)
      if (o.best)
        o.final.push_back(read_outcome(plan_run(campaign_, o.competitor, o.points[*o.best], seed, Phase::final)));
  CampaignResult result{.results = make_results(campaign_, outcomes), .failed = failed_};
  write_file_durably(fs::path(campaign_.directory) / "results.json", to_pretty_json(result.results) + "\n");
  if (options_.json) std::cout << to_json(result.results) << std::endl;
  else std::cout << "\n" << format_results(result.results, terminal_width(stdout));
  return result;
}

}  // namespace

CampaignResult run_campaign(const CampaignConfig& campaign, const CampaignOptions& options,
                            const std::atomic<bool>& stop) {
  return Runner(campaign, options, stop)();
}

}  // namespace schatten
