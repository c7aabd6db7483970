// From run directories to claims: results.json (docs/run-directory.md).
#pragma once
#include <schatten/campaign/campaign_config.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

/// What one run left behind.
struct RunOutcome {
  PlannedRun plan;
  std::string status = "missing";  // ok, diverged, interrupted, failed, missing
  double validation = NAN, test = NAN, seconds = NAN, cpu_seconds = NAN, state_bytes_per_parameter = NAN;
  std::string corpus;
  bool concurrent = false;                              // shared the machine with other runs
  std::vector<std::pair<int64_t, double>> evaluations;  // step, validation loss
  bool ok() const { return status == "ok"; }
};
/// Reads metrics.jsonl; a run that was never started or not finished is `missing`.
RunOutcome read_outcome(const PlannedRun& plan);

/// The grid point with the least mean validation loss over its tuning runs; a diverged run counts as
/// infinite. None when every point diverged.
std::optional<size_t> best_point(const std::vector<std::vector<RunOutcome>>& by_point);
/// Keys of more than one value whose best one lies at an end of its list.
std::vector<std::string> keys_on_edge(const Value& grid, const Point& best);

struct CompetitorOutcome {
  Competitor competitor;
  std::vector<Point> points;
  std::vector<std::vector<RunOutcome>> tuning;  // by point
  std::optional<size_t> best;
  std::vector<RunOutcome> final;
};

/// Statistics and sentences. Where a final run shared the machine, time means CPU time.
Value make_results(const CampaignConfig& campaign, const std::vector<CompetitorOutcome>& outcomes);

/// Table and verdict for a terminal of this width.
std::string format_results(const Value& results, int width);

}  // namespace schatten
