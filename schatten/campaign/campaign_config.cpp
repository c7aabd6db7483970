#include <schatten/campaign/campaign_config.h>
#include <schatten/core/error.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <set>

namespace schatten {

namespace {

constexpr size_t kMostPoints = 10'000;

std::string where(const Value& v, const std::string& otherwise) {
  const std::string origin = v.origin.to_string();
  return origin.empty() ? otherwise : origin;
}

void check_seeds(const CampaignConfig& c) {
  std::set<int64_t> seen;
  for (const auto* list : {&c.tuning_seeds, &c.final_seeds}) {
    if (list->empty()) fail_usage({"campaign", "at least one seed in tuning_seeds and final_seeds", "none", ""});
    for (const int64_t seed : *list)
      if (!seen.insert(seed).second)
        fail_usage({"campaign", "every seed once: tuning seeds are never used for a claim",
                    std::to_string(seed) + " twice", ""});
  }
}

/// What a name becomes as a folder: other characters would leave the campaign's directory, or the file system's rules.
std::string as_folder(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c) && !std::strchr("=,.-_+", c); }, '_');
  return name;
}

void check_grid(const Competitor& c) {
  size_t points = 1;
  for (const auto& [key, values] : c.grid.as_table()) {
    if (!values.is_array() || values.as_array().empty())
      fail_usage({where(values, "grid of " + c.name), "'" + key + "' to be a list of values", to_json(values),
                  "For example grid.\"" + key + "\" = [1e-3, 3e-3]."});
    points *= values.as_array().size();
    if (points > kMostPoints)
      fail_usage({"grid of " + c.name, "at most " + std::to_string(kMostPoints) + " points", "more",
                  "Tune fewer keys at a time."});
  }
  std::set<std::string> folders;
  for (const Point& p : expand_grid(c.grid))
    if (!folders.insert(point_name(p)).second)
      fail_usage({"grid of " + c.name, "points with a folder name each", "'" + point_name(p) + "' twice",
                  "A value stands there twice, or differs in signs only."});
}

void check_optimizers(const CampaignConfig& c) {
  std::vector<std::string> names;
  for (const Competitor& o : c.optimizer) {
    if (o.name.empty()) fail_usage({"campaign", "a name for every [[optimizer]]", "none", ""});
    if (o.name != as_folder(o.name) || o.name.find_first_not_of('.') == std::string::npos)
      fail_usage(
          {"campaign", "optimizer names of letters, digits and =,.-_+ (they name folders)", "'" + o.name + "'", ""});
    if (std::find(names.begin(), names.end(), o.name) != names.end())
      fail_usage({"campaign", "every optimizer's name once", "'" + o.name + "' twice", ""});
    names.push_back(o.name);
    check_grid(o);
  }
  if (std::find(names.begin(), names.end(), c.baseline) == names.end())
    fail_usage({"campaign", "baseline to be one of the optimizers", "'" + c.baseline + "'",
                nearest(c.baseline, names).empty() ? "" : "Did you mean '" + nearest(c.baseline, names) + "'?"});
}

}  // namespace

CampaignConfig read_campaign_config(const Value& table) {
  CampaignConfig c;
  read_fields(table, c, "");
  if (c.optimizer.empty())
    fail_usage({"campaign", "at least one [[optimizer]]", "none", "See examples/first_look.toml."});
  if (c.directory.empty()) c.directory = "runs/" + c.name;
  if (c.baseline.empty()) c.baseline = c.optimizer.front().name;
  check_seeds(c);
  check_optimizers(c);
  for (const Competitor& o : c.optimizer)  // every point must be a config that a run accepts, before any runs
    for (const Point& p : expand_grid(o.grid))
      read_run_config(plan_run(c, o, p, c.tuning_seeds[0], Phase::tune).config);
  return c;
}

std::vector<Point> expand_grid(const Value& grid) {
  std::vector<Point> points{{}};
  for (const auto& [key, values] : grid.as_table()) {
    std::vector<Point> longer;
    for (const Point& p : points)
      for (const Value& v : values.as_array()) {
        longer.push_back(p);
        longer.back().emplace_back(key, v);
      }
    points = std::move(longer);
  }
  return points;
}

std::string point_name(const Point& point) {
  std::string name;
  for (const auto& [key, value] : point) {
    const size_t last = key.rfind('.');
    const size_t before = last == std::string::npos || last == 0 ? std::string::npos : key.rfind('.', last - 1);
    name += (name.empty() ? "" : ",") + key.substr(before == std::string::npos ? 0 : before + 1) + "=" +
            (value.is_string() ? value.as_string() : to_json(value));
  }
  return name.empty() ? "default" : as_folder(name);
}

PlannedRun plan_run(const CampaignConfig& campaign, const Competitor& competitor, const Point& point, int64_t seed,
                    Phase phase) {
  PlannedRun run{.optimizer = competitor.name, .point = point, .seed = seed, .phase = phase, .config = campaign.base};
  merge(run.config, competitor.set);
  for (const auto& [key, value] : point) set_path(run.config, key, value);
  run.config["name"] = competitor.name;
  run.config["seed"] = seed;
  Value& train = run.config["train"];
  train["test"] = phase == Phase::final;
  const int64_t steps = train.integer_or("steps", TrainOptions{}.steps);
  if (!train.find("checkpoint_every"))
    train["checkpoint_every"] = std::max<int64_t>(50, steps / 4);    // a killed run goes on
  if (phase == Phase::tune) run.config["spectra"] = Value::table();  // nobody looks at these
  run.run_dir = std::filesystem::path(campaign.directory) / "runs" / competitor.name /
                (point_name(point) + "-seed" + std::to_string(seed));
  return run;
}

}  // namespace schatten
