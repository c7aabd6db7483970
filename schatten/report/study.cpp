#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/report/study.h>
#include <schatten/train/jsonl.h>

#include <algorithm>

namespace schatten {

namespace fs = std::filesystem;

namespace {

/// samples.txt holds "--- step N" and a text, again and again; the last one counts.
std::string last_sample(const fs::path& path) {
  if (!fs::exists(path)) return "";
  const std::string all = read_file(path);
  const size_t at = all.rfind("--- step ");
  return at == std::string::npos ? all : all.substr(at);
}

std::string name_of(const fs::path& folder) {
  const fs::path clean = folder.lexically_normal();
  return (clean.has_filename() ? clean.filename() : clean.parent_path().filename()).string();
}

}  // namespace

Run read_run(const fs::path& folder) {
  if (!fs::exists(folder / "metrics.jsonl"))
    fail({folder.string(), "a run directory (metrics.jsonl) or a campaign directory (results.json)", "neither",
          "`schatten train` and `schatten campaign` make them."});
  Run run{.folder = folder};
  for (const Value& r : read_jsonl(folder / "metrics.jsonl")) {
    const std::string event = r.string_or("event", "");
    if (event == "start") run.start = r;
    if (event == "end") run.end = r;
    if (event == "eval" && r.string_or("split", "") == "validation")
      run.evaluations.push_back(
          {r.integer_or("step", 0), r.real_or("loss", NAN), r.real_or("seconds", NAN), r.real_or("cpu_seconds", NAN)});
  }
  run.seed = run.start.integer_or("seed", 0);
  if (fs::exists(folder / "config.toml")) run.config = load_toml(folder / "config.toml");
  if (fs::exists(folder / "environment.json"))
    run.environment = parse_json(read_file(folder / "environment.json"), (folder / "environment.json").string());
  if (fs::exists(folder / "spectra.jsonl")) run.spectra = read_jsonl(folder / "spectra.jsonl");
  run.sample = last_sample(folder / "samples.txt");
  return run;
}

bool Study::concurrent() const {
  if (claims())
    if (const Value* c = results.find("concurrent")) return c->is_bool() && c->as_bool();
  for (const StudyGroup& g : groups)
    for (const Run& r : g.runs)
      if (const Value* c = r.start.find("concurrent"); c && c->is_bool() && c->as_bool()) return true;
  return false;
}

Study read_campaign(const fs::path& folder) {
  const fs::path path = folder / "results.json";
  Study study{.title = name_of(folder), .folder = folder, .results = parse_json(read_file(path), path.string())};
  study.title = study.results.string_or("name", study.title);
  for (const Value& o : study.results.at("optimizers").as_array()) {
    StudyGroup group{.name = o.at("name").as_string()};
    for (const Value& point : o.at("points").as_array())
      for (const Value& run : point.at("runs").as_array()) {
        if (run.string_or("phase", "") != "final" || run.string_or("status", "") != "ok") continue;
        group.runs.push_back(read_run(folder / run.at("dir").as_string()));
      }
    study.groups.push_back(std::move(group));
  }
  return study;
}

Study read_side_by_side(const std::vector<fs::path>& folders) {
  Study study{.title = folders.size() == 1 ? name_of(folders[0]) : std::to_string(folders.size()) + " runs",
              .folder = folders[0]};
  for (const fs::path& folder : folders) {
    StudyGroup group{.name = name_of(folder)};
    group.runs.push_back(read_run(folder));
    study.groups.push_back(std::move(group));
  }
  return study;
}

std::vector<std::pair<std::string, std::string>> flatten(const Value& table, const std::string& prefix) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto& [key, value] : table.as_table()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (value.is_table()) {
      const auto below = flatten(value, name);
      rows.insert(rows.end(), below.begin(), below.end());
    } else {
      rows.emplace_back(name, value.is_string() ? value.as_string() : to_json(value));
    }
  }
  return rows;
}

}  // namespace schatten
