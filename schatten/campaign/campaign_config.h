// A campaign file: a base config, optimizers with a grid each, tuning seeds and final seeds.
#pragma once
#include <schatten/train/config.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace schatten {

/// One competitor: overrides of the base config, and a grid of dotted keys.
struct Competitor {
  std::string name;
  Value set = Value::table();
  Value grid = Value::table();
  void fields(auto&& visit) {
    visit("name", name, "label in tables and figures");
    visit("set", set, "overrides of the base config");
    visit("grid", grid, "dotted key -> list of values; every combination is tried");
  }
};

struct CampaignConfig {
  std::string name = "campaign";
  std::string directory;  // default runs/NAME
  std::vector<int64_t> tuning_seeds{1};
  std::vector<int64_t> final_seeds{101, 102, 103, 104, 105};
  std::string baseline;  // default: the first optimizer
  Value base = Value::table();
  std::vector<Competitor> optimizer;
  void fields(auto&& visit) {
    visit("name", name, "label");
    visit("directory", directory, "where everything goes (default runs/NAME)");
    visit("tuning_seeds", tuning_seeds, "choose the point of each optimizer's grid, on validation");
    visit("final_seeds", final_seeds, "fresh paired seeds for the claim, on test");
    visit("baseline", baseline, "the optimizer that others are compared with");
    visit("base", base, "a run config");
    visit("optimizer", optimizer, "[[optimizer]] tables");
  }
};

CampaignConfig read_campaign_config(const Value& table);

using Point = std::vector<std::pair<std::string, Value>>;  // dotted key and value, in the grid's order

/// Every combination of a grid, last key fastest. An empty grid has one point.
std::vector<Point> expand_grid(const Value& grid);
/// "lr=0.02,auxiliary.lr=0.003": safe as a folder name.
std::string point_name(const Point& point);

enum class Phase { tune, final };
struct PlannedRun {
  std::string optimizer;
  Point point;
  int64_t seed = 0;
  Phase phase = Phase::tune;
  Value config;  // what `schatten train` gets
  std::filesystem::path run_dir;
};
PlannedRun plan_run(const CampaignConfig& campaign, const Competitor& competitor, const Point& point, int64_t seed,
                    Phase phase);

}  // namespace schatten
