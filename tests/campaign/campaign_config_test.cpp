// A campaign file that cannot be run says so before anything runs.
#include <gtest/gtest.h>
#include <schatten/campaign/campaign_config.h>
#include <schatten/core/error.h>

#include <set>

namespace schatten::testing {
namespace {

const std::string kOptimizers = R"(
[[optimizer]]
name = "adamw"
set.optimizer.matrix = { recipe = "adamw" }
grid."optimizer.matrix.lr" = [1e-3, 2e-3]
[[optimizer]]
name = "muon"
set.optimizer.matrix = { recipe = "muon" }
grid."optimizer.matrix.lr" = [1e-2, 2e-2]
)";

CampaignConfig read(const std::string& toml) { return read_campaign_config(parse_toml(toml, "study.toml")); }

/// The message of the UsageError that this file is.
std::string complaint(const std::string& toml) {
  try {
    read(toml);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

::testing::AssertionResult says(const std::string& toml, const std::vector<std::string>& parts) {
  const std::string message = complaint(toml);
  if (message.empty()) return ::testing::AssertionFailure() << "no error";
  for (const std::string& part : parts)
    if (message.find(part) == std::string::npos) return ::testing::AssertionFailure() << message << "\nlacks " << part;
  return ::testing::AssertionSuccess();
}

TEST(CampaignConfig, ReadsAndFillsWhatIsNotSaid) {
  const CampaignConfig c = read("name = \"study\"\n" + kOptimizers);
  EXPECT_EQ(c.directory, "runs/study");
  EXPECT_EQ(c.baseline, "adamw");
  EXPECT_EQ(c.tuning_seeds, std::vector<int64_t>{1});
  EXPECT_EQ(c.final_seeds.size(), 5u);
  ASSERT_EQ(c.optimizer.size(), 2u);
  EXPECT_EQ(c.optimizer[1].name, "muon");
  EXPECT_EQ(read("baseline = \"muon\"\ndirectory = \"elsewhere\"\n" + kOptimizers).baseline, "muon");
}

TEST(CampaignConfig, NeedsAnOptimizerWithAName) {
  EXPECT_TRUE(says("name = \"x\"", {"at least one [[optimizer]]", "got none"}));
  EXPECT_TRUE(says("[[optimizer]]\nset.optimizer.matrix = { recipe = \"adamw\" }", {"a name for every [[optimizer]]"}));
  EXPECT_TRUE(says("[[optimizer]]\nname = \"a\"\n[[optimizer]]\nname = \"a\"", {"name once", "'a' twice"}));
}

TEST(CampaignConfig, NamesAndPointsAreFoldersOfTheirOwn) {
  for (const char* name : {"../x", "a/b", "a b", ".."})
    EXPECT_TRUE(says("[[optimizer]]\nname = \"" + std::string(name) + "\"", {"letters, digits", name}));
  EXPECT_TRUE(says("[[optimizer]]\nname = \"a\"\ngrid.name = [\"x y\", \"x_y\"]", {"a folder name each", "x_y"}));
  EXPECT_TRUE(says("[[optimizer]]\nname = \"a\"\ngrid.\"train.clip\" = [1.0, 1.0]", {"a folder name each"}));
}

TEST(CampaignConfig, SeedsAreThereAndNeverUsedTwice) {
  EXPECT_TRUE(says("tuning_seeds = []\n" + kOptimizers, {"at least one seed"}));
  EXPECT_TRUE(says("final_seeds = []\n" + kOptimizers, {"at least one seed"}));
  EXPECT_TRUE(says("final_seeds = [5, 6, 5]\n" + kOptimizers, {"5 twice"}));
  EXPECT_TRUE(
      says("tuning_seeds = [1, 2]\nfinal_seeds = [2, 3]\n" + kOptimizers, {"never used for a claim", "2 twice"}));
  EXPECT_EQ(complaint("tuning_seeds = [1, 2]\nfinal_seeds = [3, 4]\n" + kOptimizers), "");
}

TEST(CampaignConfig, AnUnknownBaselineNamesTheNearest) {
  EXPECT_TRUE(says("baseline = \"moun\"\n" + kOptimizers,
                   {"baseline to be one of the optimizers", "'moun'", "Did you mean 'muon'?"}));
  EXPECT_TRUE(says("baseline = \"somethingelse\"\n" + kOptimizers, {"'somethingelse'"}));
  EXPECT_EQ(complaint("baseline = \"somethingelse\"\n" + kOptimizers).find("Did you mean"), std::string::npos);
}

TEST(CampaignConfig, AGridValueIsAListWithSomethingInIt) {
  const std::string start = "[[optimizer]]\nname = \"a\"\n";
  EXPECT_TRUE(says(start + "grid.\"optimizer.matrix.lr\" = 1e-3",
                   {"study.toml:3", "'optimizer.matrix.lr' to be a list", "got 0.001"}));
  EXPECT_TRUE(says(start + "grid.\"optimizer.matrix.lr\" = []", {"to be a list of values", "got []"}));
  EXPECT_TRUE(says(start + "grid = 3", {"a table"}));
}

TEST(CampaignConfig, AGridHasAnEnd) {
  std::string grid = "[[optimizer]]\nname = \"a\"\n", values = "1";
  for (int i = 2; i <= 101; ++i) values += ", " + std::to_string(i);
  grid += "grid.\"train.steps\" = [" + values + "]\ngrid.\"train.log_every\" = [" + values + "]\n";
  EXPECT_TRUE(says(grid, {"grid of a", "at most 10000 points"}));
}

TEST(CampaignConfig, UnknownKeysNameTheNearest) {
  EXPECT_TRUE(
      says("final_seed = [1]\n" + kOptimizers, {"'final_seed'", "study.toml:1", "Did you mean 'final_seeds'?"}));
  EXPECT_TRUE(says("[[optimizer]]\nname = \"a\"\ngird.x = [1]", {"optimizer.gird", "Did you mean 'grid'?"}));
}

TEST(CampaignConfig, EveryPointIsARunThatCouldStart) {
  const std::string start = "[[optimizer]]\nname = \"a\"\n";
  EXPECT_TRUE(says("[base]\ntrain.stepz = 3\n" + start, {"train.stepz", "Did you mean 'steps'?"}));
  EXPECT_TRUE(says(start + "set.optimizer.matrix = { recipe = \"muno\" }", {"muno", "muon"}));
  EXPECT_TRUE(says(start + "grid.\"optimizer.matrix.lr\" = [1e-3, -1.0]", {"lr"}));  // the last point of the grid
  EXPECT_TRUE(says(start + "grid.\"optimizer.matrix.power\" = [0.1]", {"power"}));   // muon has no such option
  EXPECT_TRUE(says(start + "grid.\"train.steps\" = [10, 0]", {"train.steps >= 1"}));
}

TEST(Grid, LastKeyIsFastest) {
  const Value grid = parse_toml("a = [1, 2]\nb = [\"x\", \"y\", \"z\"]");
  const auto points = expand_grid(grid);
  ASSERT_EQ(points.size(), 6u);
  std::vector<std::string> names;
  for (const Point& p : points) {
    ASSERT_EQ(p.size(), 2u);
    EXPECT_EQ(p[0].first, "a");
    EXPECT_EQ(p[1].first, "b");
    names.push_back(std::to_string(p[0].second.as_integer()) + p[1].second.as_string());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"1x", "1y", "1z", "2x", "2y", "2z"}));
}

TEST(Grid, AnEmptyOneHasOnePoint) {
  const auto points = expand_grid(Value::table());
  ASSERT_EQ(points.size(), 1u);
  EXPECT_TRUE(points[0].empty());
  EXPECT_EQ(point_name(points[0]), "default");
}

TEST(PointName, KeepsTheLastTwoPartsOfAKey) {
  EXPECT_EQ(point_name({{"optimizer.matrix.lr", 0.02}, {"optimizer.auxiliary.lr", 0.003}}),
            "matrix.lr=0.02,auxiliary.lr=0.003");
  EXPECT_EQ(point_name({{"lr", 1e-5}}), "lr=1e-05");
  EXPECT_EQ(point_name({{"schedule.kind", "wsd"}}), "schedule.kind=wsd");
}

TEST(PointName, IsSafeAsAFolder) {
  const std::set<char> allowed = [] {
    std::set<char> all;
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=,.-_+"))
      all.insert(c);
    return all;
  }();
  const std::vector<Value> values = {
      "../../etc", "a b\n\"c\"", "caf\xC3\xA9", "",   Value::Array{1, 2}, Value::Table{{"k", "/"}},
      true,        Value(),      -0.5,          1e300};
  for (const Value& v : values) {
    const std::string name = point_name({{"a.b/c.d", v}});
    for (const char c : name) EXPECT_TRUE(allowed.contains(c)) << name;
    EXPECT_NE(name, "..");
    EXPECT_NE(name, ".");
    EXPECT_FALSE(name.empty());
  }
}

TEST(PlannedRun, IsTheBaseThenTheOverridesThenThePoint) {
  const CampaignConfig c =
      read("directory = \"d\"\n[base]\ntrain.steps = 300\ndata.batch = 6\nspectra.every = 50\n" + kOptimizers);
  const Competitor& muon = c.optimizer[1];
  const Point point = expand_grid(muon.grid)[1];
  const PlannedRun tune = plan_run(c, muon, point, 7, Phase::tune), final = plan_run(c, muon, point, 101, Phase::final);
  EXPECT_EQ(find_path(tune.config, "optimizer.matrix.lr")->as_real(), 2e-2);
  EXPECT_EQ(find_path(tune.config, "optimizer.matrix.recipe")->as_string(), "muon");
  EXPECT_EQ(find_path(tune.config, "data.batch")->as_integer(), 6);
  EXPECT_EQ(tune.config.at("seed").as_integer(), 7);
  EXPECT_EQ(tune.run_dir, std::filesystem::path("d/runs/muon/matrix.lr=0.02-seed7"));
  EXPECT_FALSE(find_path(tune.config, "train.test")->as_bool()) << "tuning must never see the test split";
  EXPECT_TRUE(find_path(final.config, "train.test")->as_bool());
  EXPECT_EQ(find_path(tune.config, "spectra.every"), nullptr);
  EXPECT_EQ(find_path(final.config, "spectra.every")->as_integer(), 50);
  EXPECT_EQ(find_path(final.config, "train.checkpoint_every")->as_integer(), 75);
  EXPECT_FALSE(c.base.find("seed")) << "planning must leave the campaign as it is";
}

TEST(PlannedRun, RunsOfOneCampaignHaveFoldersOfTheirOwn) {
  const CampaignConfig c = read(kOptimizers);
  std::set<std::string> folders;
  size_t runs = 0;
  for (const Competitor& o : c.optimizer)
    for (const Point& p : expand_grid(o.grid))
      for (const int64_t seed : {1, 101, 102}) {
        folders.insert(plan_run(c, o, p, seed, Phase::tune).run_dir.string());
        ++runs;
      }
  EXPECT_EQ(folders.size(), runs);
}

}  // namespace
}  // namespace schatten::testing
