// What a report is about: the runs of a campaign with their claims, or runs laid side by side without any.
#pragma once
#include <schatten/core/value.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

namespace schatten {

struct Evaluation {
  int64_t step = 0;
  double loss = NAN, seconds = NAN, cpu_seconds = NAN;
};

/// One run directory, read back.
struct Run {
  std::filesystem::path folder;
  int64_t seed = 0;
  Value config = Value::table(), environment = Value::table();
  Value start = Value::table(),
        end = Value::table();           // records of metrics.jsonl; end stays empty for an unfinished run
  std::vector<Evaluation> evaluations;  // validation
  std::vector<Value> spectra;
  std::string sample;
  double test() const { return end.real_or("test", NAN); }
  std::string status() const { return end.string_or("status", "unfinished"); }
};
/// Errors: no metrics.jsonl there.
Run read_run(const std::filesystem::path& folder);

/// The runs of one colour: an optimizer of a campaign (its final runs), or one run.
struct StudyGroup {
  std::string name;
  std::vector<Run> runs;
};

struct Study {
  std::string title;
  std::filesystem::path folder;
  Value results;  // results.json of a campaign; null for plain runs
  std::vector<StudyGroup> groups;
  bool claims() const { return results.is_table(); }
  bool concurrent() const;  // runs shared the machine: time means CPU seconds
};
Study read_campaign(const std::filesystem::path& folder);
Study read_side_by_side(const std::vector<std::filesystem::path>& folders);

/// Nested tables as dotted keys, values as TOML text.
std::vector<std::pair<std::string, std::string>> flatten(const Value& table, const std::string& prefix = "");

}  // namespace schatten
