#include <schatten/report/report.h>

#include <filesystem>
#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

void add_report(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("report", "one self-contained HTML page (and Markdown) from campaigns or runs");
  const auto folders = std::make_shared<std::vector<std::string>>();
  const auto out = std::make_shared<std::string>();
  command->add_option("directories", *folders, "campaign directory, or run directories to lay side by side")
      ->required();
  command->add_option("--out", *out, "folder for report.html and report.md (default: the first directory)");
  command->footer("Examples:\n  schatten report runs/first_look\n  schatten report runs/a runs/b --out compared");
  command->callback([folders, out] {
    const ReportFiles files = write_report({folders->begin(), folders->end()}, *out);
    std::cout << "report  " << files.html.string() << "\n";
  });
}

}  // namespace schatten::cli
