#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/report/page.h>
#include <schatten/report/report.h>

namespace schatten {

ReportFiles write_report(const std::vector<std::filesystem::path>& directories, const std::filesystem::path& out) {
  if (directories.empty()) fail_usage({"report", "at least one campaign or run directory", "none", ""});
  std::vector<Study> studies;
  std::vector<std::filesystem::path> runs;
  for (const auto& d : directories) {
    if (std::filesystem::exists(d / "results.json")) studies.push_back(read_campaign(d));
    else runs.push_back(d);
  }
  if (!runs.empty()) studies.push_back(read_side_by_side(runs));
  const std::filesystem::path folder = out.empty() ? directories[0] : out;
  std::filesystem::create_directories(folder);
  const ReportFiles files{folder / "report.html", folder / "report.md"};
  write_file_durably(files.html, html_page(studies));
  write_file_durably(files.markdown, markdown_page(studies));
  return files;
}

}  // namespace schatten
