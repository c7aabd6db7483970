// One self-contained HTML page, and its Markdown twin, from campaigns or runs.
#pragma once
#include <filesystem>
#include <vector>

namespace schatten {

struct ReportFiles {
  std::filesystem::path html, markdown;
};

/// Each directory is a campaign (results.json) or a single run (metrics.jsonl); several runs are laid side by side
/// without claims. Files go to `out`, by default the first directory. Errors: neither of the two, or nothing finished.
ReportFiles write_report(const std::vector<std::filesystem::path>& directories, const std::filesystem::path& out = {});

}  // namespace schatten
