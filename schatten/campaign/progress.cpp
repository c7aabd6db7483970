#include <schatten/campaign/progress.h>
#include <schatten/core/files.h>
#include <schatten/train/terminal.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>

namespace schatten {

namespace {

/// The last "step" in metrics.jsonl, from its tail only.
int64_t step_reached(const std::filesystem::path& run_dir) {
  std::ifstream in(run_dir / "metrics.jsonl", std::ios::binary | std::ios::ate);
  if (!in) return 0;
  const auto size = static_cast<int64_t>(in.tellg());
  in.seekg(std::max<int64_t>(0, size - 4096));
  const std::string tail((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const size_t at = tail.rfind("\"step\":");
  return at == std::string::npos ? 0 : std::atoll(tail.c_str() + at + 7);
}

std::string four_marks(double share) {
  const auto full = static_cast<size_t>(4 * share);
  return std::string(full, '#') + std::string(4 - full, '-');
}

}  // namespace

CampaignProgress::CampaignProgress(const CampaignConfig& campaign, size_t planned, bool silent)
    : name_(campaign.name), planned_(planned), silent_(silent), terminal_(!silent && is_terminal(stdout)) {}

void CampaignProgress::phase(const std::string& title, const std::vector<PlannedRun>& runs) {
  erase();
  title_ = title;
  runs_ = runs;
  if (!terminal_) print(title);
}

void CampaignProgress::started(const PlannedRun& run) { share_[run.run_dir.string()] = 0; }

void CampaignProgress::finished(const RunOutcome& o, bool skipped) {
  ++done_;
  if (skipped) ++skipped_;
  if (o.status == "diverged") ++diverged_;
  const std::string key = o.plan.run_dir.string();
  ended_[key] = o.status;
  share_.erase(key);
  if (terminal_) return;
  print("  " + std::to_string(done_) + "/" + std::to_string(planned_) + "  " + pad(o.plan.optimizer, 10) + " " +
        point_name(o.plan.point) + " seed " + std::to_string(o.plan.seed) + "  " +
        (o.ok() ? "val " + format_loss(o.validation) + (std::isfinite(o.test) ? ", test " + format_loss(o.test) : "")
                : o.status) +
        (skipped ? "  (already there)" : "  " + format_duration(o.seconds)));
}

double CampaignProgress::eta() const {
  double part = 0;
  for (const auto& [key, share] : share_) part += share;
  const double mine = static_cast<double>(done_ - skipped_) + part, left = static_cast<double>(planned_ - done_) - part;
  const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  return mine > 0.2 ? spent / mine * left : std::numeric_limits<double>::quiet_NaN();
}

std::string CampaignProgress::bar(const PlannedRun& run, int64_t) const {
  const std::string key = run.run_dir.string();
  if (const auto it = ended_.find(key); it != ended_.end())
    return it->second == "ok" ? "####" : it->second == "diverged" ? "div!" : "fail";
  const auto it = share_.find(key);
  return it == share_.end() ? "...." : four_marks(it->second);
}

void CampaignProgress::draw(const std::vector<const PlannedRun*>& running, int64_t steps) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - drawn_ < std::chrono::milliseconds(200)) return;
  drawn_ = now;
  for (const PlannedRun* run : running)
    share_[run->run_dir.string()] =
        std::min(0.999, static_cast<double>(step_reached(run->run_dir)) / static_cast<double>(steps));
  const auto width = static_cast<size_t>(terminal_width(stdout)) - 1;
  std::vector<std::string> lines{name_ + "   " + std::to_string(done_) + "/" + std::to_string(planned_) + " done, " +
                                 std::to_string(diverged_) + " diverged, eta " + format_duration(eta()) + "   " +
                                 title_};
  std::string optimizer;
  for (const PlannedRun& run : runs_) {
    std::string cell = run.phase == Phase::tune ? point_name(run.point) : "seed " + std::to_string(run.seed);
    cell = cell.substr(0, cell.find(',')) + " " + bar(run, steps);
    if (run.optimizer != optimizer || lines.back().size() + cell.size() + 2 > width) {
      lines.push_back("  " + pad(run.optimizer != optimizer ? run.optimizer : "", 10));
      optimizer = run.optimizer;
    }
    lines.back() += "  " + cell;
  }
  erase();
  for (std::string& line : lines) std::printf("%s\n", line.substr(0, width).c_str());
  std::fflush(stdout);
  lines_ = static_cast<int>(lines.size());
}

void CampaignProgress::erase() {
  if (lines_ == 0) return;
  std::printf("\033[%dA\033[J", lines_);
  std::fflush(stdout);
  lines_ = 0;
}

void CampaignProgress::print(const std::string& line) {
  if (silent_) return;
  erase();
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

}  // namespace schatten
