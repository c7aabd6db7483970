// Runs a campaign: tune, choose, repeat with fresh seeds, claim.
#pragma once
#include <schatten/campaign/campaign_config.h>

#include <atomic>
#include <string>
#include <vector>

namespace schatten {

struct CampaignOptions {
  int jobs = 1;
  bool json = false;
  std::vector<std::string> program;  // the words that start schatten: every run is a process of its own
};

struct CampaignResult {
  Value results;  // as results.json
  int64_t failed = 0;
  bool interrupted = false;
};

/// Finished runs are skipped, killed ones resumed. Writes plan.json and results.json into the campaign's directory and
/// prints progress, table and verdict. `stop` ends the running children (they save) and returns.
CampaignResult run_campaign(const CampaignConfig& campaign, const CampaignOptions& options,
                            const std::atomic<bool>& stop);

}  // namespace schatten
