// What a campaign shows while it runs: a block redrawn in place on a terminal, one line per finished run when piped.
#pragma once
#include <schatten/campaign/results.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace schatten {

class CampaignProgress {
 public:
  CampaignProgress(const CampaignConfig& campaign, size_t planned, bool silent);
  ~CampaignProgress() { erase(); }
  CampaignProgress(const CampaignProgress&) = delete;
  CampaignProgress& operator=(const CampaignProgress&) = delete;

  void phase(const std::string& title, const std::vector<PlannedRun>& runs);
  void started(const PlannedRun& run);
  void finished(const RunOutcome& outcome, bool skipped);
  /// Redraws at most five times a second; reads how far the running ones are.
  void draw(const std::vector<const PlannedRun*>& running, int64_t steps);
  void erase();
  void print(const std::string& line);

 private:
  std::string bar(const PlannedRun& run, int64_t steps) const;
  double eta() const;
  std::string name_;
  size_t planned_, done_ = 0, skipped_ = 0, diverged_ = 0;
  bool silent_, terminal_;
  int lines_ = 0;
  std::string title_;
  std::vector<PlannedRun> runs_;
  std::map<std::string, std::string> ended_;  // status by run directory
  std::map<std::string, double> share_;       // done part of running ones
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now(), drawn_{};
};

}  // namespace schatten
