// From outcomes made by hand to what is claimed: a winner is named only where the interval says so.
#include <gtest/gtest.h>
#include <schatten/campaign/results.h>
#include <schatten/campaign/statistics.h>
#include <schatten/train/terminal.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace schatten::testing {
namespace {

RunOutcome outcome(const std::string& status, double validation) {
  return {.status = status, .validation = validation};
}

std::vector<std::vector<RunOutcome>> one_seed(const std::vector<std::pair<std::string, double>>& points) {
  std::vector<std::vector<RunOutcome>> all;
  for (const auto& [status, loss] : points) all.push_back({outcome(status, loss)});
  return all;
}

TEST(BestPoint, HasTheLeastMeanValidationLoss) {
  EXPECT_EQ(best_point(one_seed({{"ok", 2.0}, {"ok", 1.5}, {"ok", 1.7}})), std::optional<size_t>(1));
  EXPECT_EQ(best_point(one_seed({{"ok", 1.5}, {"ok", 1.5}})), std::optional<size_t>(0));
  EXPECT_EQ(best_point({{outcome("ok", 1.0), outcome("ok", 3.0)}, {outcome("ok", 1.8), outcome("ok", 1.9)}}),
            std::optional<size_t>(1));
}

TEST(BestPoint, ARunThatDidNotFinishCountsAsInfinite) {
  for (const char* status : {"diverged", "interrupted", "failed", "missing"}) {
    EXPECT_EQ(best_point(one_seed({{status, 0.1}, {"ok", 2.0}})), std::optional<size_t>(1)) << status;
    // One bad seed spoils a point, however good the other one is.
    EXPECT_EQ(best_point({{outcome("ok", 0.1), outcome(status, 0.1)}, {outcome("ok", 2), outcome("ok", 2)}}),
              std::optional<size_t>(1));
  }
  EXPECT_EQ(best_point(one_seed({{"ok", NAN}, {"ok", 2.0}})), std::optional<size_t>(1));
}

TEST(BestPoint, NoneWhereEveryPointDiverged) {
  EXPECT_FALSE(best_point(one_seed({{"diverged", NAN}, {"diverged", 1.0}})));
  EXPECT_FALSE(best_point({}));
  EXPECT_FALSE(best_point({{}, {}}));
}

TEST(Edge, IsAnEndOfAListOfNumbers) {
  Value grid = Value::table();
  grid["lr"] = Value::Array{3e-3, 1e-3, 1e-2};  // order does not matter
  grid["one"] = Value::Array{0.5};
  grid["kind"] = Value::Array{"cosine", "linear"};
  grid["steps"] = Value::Array{Value(10), Value(20.0), Value(30)};
  const auto on = [&](const char* key, const Value& v) { return !keys_on_edge(grid, {{key, v}}).empty(); };
  EXPECT_FALSE(on("lr", 3e-3));
  EXPECT_TRUE(on("lr", 1e-3));
  EXPECT_TRUE(on("lr", 1e-2));
  EXPECT_FALSE(on("one", 0.5)) << "not tuned, so not on an edge";
  EXPECT_FALSE(on("kind", "cosine")) << "names have no order";
  EXPECT_TRUE(on("steps", 30));
  EXPECT_FALSE(on("steps", 20));
  EXPECT_FALSE(on("elsewhere", 1));
  EXPECT_EQ(keys_on_edge(grid, {{"lr", 1e-2}, {"steps", 10}}), (std::vector<std::string>{"lr", "steps"}));
}

// --- campaigns of hand-made outcomes ---

const std::vector<double> kRates = {1e-3, 2e-3, 4e-3};

CampaignConfig campaign(size_t seeds) {
  CampaignConfig c;
  c.name = "study";
  c.directory = "somewhere/study";
  c.baseline = "adamw";
  c.base["train"]["steps"] = 100;
  c.final_seeds.clear();
  for (size_t i = 0; i < seeds; ++i) c.final_seeds.push_back(static_cast<int64_t>(101 + i));
  return c;
}

/// Tuned over three rates with the middle one best; test losses as given, by seed.
CompetitorOutcome competitor(const CampaignConfig& c, const std::string& name, const std::vector<double>& test,
                             size_t best = 1) {
  CompetitorOutcome o{.competitor = {.name = name}};
  Value list = Value::array();
  for (const double rate : kRates) list.push_back(rate);
  o.competitor.grid["optimizer.matrix.lr"] = list;
  o.points = expand_grid(o.competitor.grid);
  for (size_t p = 0; p < o.points.size(); ++p)
    o.tuning.push_back({{.plan = plan_run(c, o.competitor, o.points[p], 1, Phase::tune),
                         .status = "ok",
                         .validation = p == best ? 2.0 : 2.5}});
  o.best = best_point(o.tuning);
  for (size_t i = 0; i < test.size(); ++i) {
    RunOutcome r{.plan = plan_run(c, o.competitor, o.points[best], c.final_seeds[i], Phase::final), .status = "ok"};
    r.test = test[i];
    r.validation = test[i] + 0.01;
    r.seconds = 50;
    r.cpu_seconds = 80;
    r.state_bytes_per_parameter = 8;
    r.corpus = "text-1";
    r.evaluations = {{50, r.validation + 0.5}, {100, r.validation}};
    o.final.push_back(r);
  }
  return o;
}

const std::vector<double> kBase = {1.50, 1.53, 1.48, 1.51, 1.52};
const std::vector<double> kAhead = {1.40, 1.44, 1.38, 1.42, 1.41};
const std::vector<double> kBehind = {1.61, 1.62, 1.60, 1.61, 1.64};
const std::vector<double> kAlike = {1.51, 1.50, 1.49, 1.52, 1.50};

Value results(const std::vector<std::pair<std::string, std::vector<double>>>& others, bool concurrent = false) {
  const CampaignConfig c = campaign(kBase.size());
  std::vector<CompetitorOutcome> all{competitor(c, "adamw", kBase)};
  for (const auto& [name, test] : others) all.push_back(competitor(c, name, test));
  for (CompetitorOutcome& o : all)
    for (RunOutcome& r : o.final) r.concurrent = concurrent;
  return make_results(c, all);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string all_of(const Value& list) {
  std::string text;
  for (const Value& v : list.as_array()) text += v.as_string() + "\n";
  return text;
}

TEST(Verdict, NamesAWinnerWhereTheIntervalExcludesZero) {
  const Value ahead = results({{"muon", kAhead}}), behind = results({{"muon", kBehind}});
  const std::string good = all_of(ahead.at("verdict")), bad = all_of(behind.at("verdict"));
  EXPECT_TRUE(good.starts_with("muon is ahead of adamw by 0.0980 nats per token on test (95 % interval 0.")) << good;
  EXPECT_TRUE(bad.starts_with("muon is behind adamw by 0.1080 nats per token on test (95 % interval 0.")) << bad;
  EXPECT_TRUE(contains(good, "5 paired seeds")) << good;
  const Value& c = ahead.at("comparisons").as_array().at(0);
  EXPECT_TRUE(c.at("decided").as_bool());
  const Difference d = paired_difference(kAhead, kBase);
  EXPECT_DOUBLE_EQ(c.at("difference").as_real(), d.mean);
  EXPECT_DOUBLE_EQ(c.at("interval").as_array()[0].as_real(), d.low);
  EXPECT_DOUBLE_EQ(c.at("p").as_real(), d.p);
  EXPECT_DOUBLE_EQ(c.at("welch_p").as_real(), welch_difference(kAhead, kBase).p);
  EXPECT_DOUBLE_EQ(c.at("detectable").as_real(), d.detectable);
}

TEST(Verdict, NamesNoWinnerWhileTheIntervalContainsZero) {
  const Value r = results({{"muon", kAlike}});
  const std::string text = all_of(r.at("verdict"));
  EXPECT_TRUE(contains(text, "No difference between muon and adamw can be claimed")) << text;
  EXPECT_TRUE(contains(text, "contains zero")) << text;
  EXPECT_TRUE(contains(text, "would have been seen")) << text;
  EXPECT_FALSE(contains(text, "ahead")) << text;
  EXPECT_FALSE(contains(text, "behind")) << text;
  const Value& c = r.at("comparisons").as_array().at(0);
  EXPECT_FALSE(c.at("decided").as_bool());
  EXPECT_LT(c.at("interval").as_array()[0].as_real(), 0);
  EXPECT_GT(c.at("interval").as_array()[1].as_real(), 0);
  for (const int width : {60, 120}) {
    const std::string shown = format_results(r, width);
    EXPECT_FALSE(contains(shown, "ahead")) << shown;
    EXPECT_FALSE(contains(shown, "behind")) << shown;
  }
}

TEST(Verdict, ComparesSeedsThatBothFinished) {
  const CampaignConfig c = campaign(kBase.size());
  CompetitorOutcome base = competitor(c, "adamw", kBase), muon = competitor(c, "muon", kAhead);
  base.final[0].status = "diverged";
  muon.final[4].status = "failed";
  std::swap(muon.final[1], muon.final[3]);  // by seed, not by place
  const Value r = make_results(c, {base, muon});
  const Difference d = paired_difference({kAhead[1], kAhead[2], kAhead[3]}, {kBase[1], kBase[2], kBase[3]});
  const Value& got = r.at("comparisons").as_array().at(0);
  EXPECT_EQ(got.at("n").as_integer(), 3);
  EXPECT_DOUBLE_EQ(got.at("difference").as_real(), d.mean);
  EXPECT_DOUBLE_EQ(got.at("p").as_real(), d.p);
  const Value& own = r.at("optimizers").as_array()[0].at("final");  // alone, an optimizer keeps all that it finished
  EXPECT_EQ(own.at("n").as_integer(), 4);
  EXPECT_DOUBLE_EQ(own.at("mean").as_real(), mean({kBase[1], kBase[2], kBase[3], kBase[4]}));
  const std::string warnings = all_of(r.at("warnings"));
  EXPECT_TRUE(contains(warnings, "adamw: 1 of 5 final runs did not finish well")) << warnings;
  EXPECT_TRUE(contains(warnings, "muon: 1 of 5 final runs did not finish well")) << warnings;
}

TEST(Verdict, OnePairIsNoComparison) {
  const CampaignConfig c = campaign(1);
  const Value r = make_results(c, {competitor(c, "adamw", {1.5}), competitor(c, "muon", {1.0})});
  const std::string text = all_of(r.at("verdict"));
  EXPECT_TRUE(contains(text, "cannot be compared: 1 pairs")) << text;
  EXPECT_FALSE(r.at("comparisons").as_array().at(0).at("decided").as_bool());
  EXPECT_TRUE(r.at("comparisons").as_array().at(0).at("p").is_null());
  for (const int width : {60, 120}) EXPECT_FALSE(contains(format_results(r, width), "nan"));
}

TEST(Verdict, NothingIsSaidOfWhatNeverFinished) {
  const CampaignConfig c = campaign(kBase.size());
  CompetitorOutcome muon = competitor(c, "muon", {});
  for (auto& runs : muon.tuning) runs[0].status = "diverged";
  muon.best = best_point(muon.tuning);
  for (const bool as_baseline : {false, true}) {
    CampaignConfig with = c;
    if (as_baseline) with.baseline = "muon";
    const Value r = make_results(with, {competitor(c, "adamw", kBase), muon});
    EXPECT_TRUE(r.at("verdict").as_array().empty());
    EXPECT_TRUE(contains(all_of(r.at("warnings")), "muon: no point of its grid finished; nothing is claimed for it."));
    EXPECT_TRUE(contains(format_results(r, 120), "diverged"));
    EXPECT_EQ(r.at("optimizers").as_array().at(1).at("points").as_array().at(0).at("diverged").as_integer(), 1);
    EXPECT_FALSE(r.at("optimizers").as_array().at(1).find("best"));
  }
}

TEST(Warnings, NoneWhereThereIsNothingToWarnOf) { EXPECT_EQ(all_of(results({{"muon", kAhead}}).at("warnings")), ""); }

TEST(Warnings, AnOptimumOnTheEdgeOfItsGrid) {
  const CampaignConfig c = campaign(kBase.size());
  const Value r = make_results(c, {competitor(c, "adamw", kBase), competitor(c, "muon", kAhead, 2)});
  EXPECT_EQ(all_of(r.at("warnings")),
            "muon: the best optimizer.matrix.lr lies on the edge of its grid; widen it before a "
            "claim.\n");
  EXPECT_EQ(r.at("optimizers").as_array().at(1).at("edge").as_array().at(0).as_string(), "optimizer.matrix.lr");
  EXPECT_TRUE(r.at("optimizers").as_array().at(0).at("edge").as_array().empty());
}

TEST(Warnings, WhatWasNotTuned) {
  const CampaignConfig c = campaign(kBase.size());
  CompetitorOutcome a = competitor(c, "adamw", kBase), b = competitor(c, "muon", kAhead);
  for (CompetitorOutcome* o : {&a, &b}) o->competitor.grid["optimizer.auxiliary.lr"] = Value::Array{3e-3};
  b.competitor.grid["train.clip"] = Value::Array{1.0};
  const std::string text = all_of(make_results(c, {a, b}).at("warnings"));
  EXPECT_TRUE(contains(text, "optimizer.auxiliary.lr was not tuned (one value) for adamw, muon.")) << text;
  EXPECT_TRUE(contains(text, "train.clip was not tuned (one value) for muon.")) << text;
}

TEST(Warnings, FewSeedsAndManyComparisons) {
  const CampaignConfig four = campaign(4);
  const std::vector<double> base(kBase.begin(), kBase.end() - 1);
  EXPECT_TRUE(contains(all_of(make_results(four, {competitor(four, "adamw", base)}).at("warnings")),
                       "4 final seeds: an indication, not a claim"));
  EXPECT_TRUE(contains(all_of(results({{"muon", kAhead}, {"htmuon", kAlike}}).at("warnings")),
                       "not corrected for their number"));
}

TEST(Results, StepsToTheLossThatEveryRunReached) {
  // The worst final validation loss is 1.54; muon's runs pass it on their way from +0.5 at step 50
  // to their own at step 100.
  const Value r = results({{"muon", kAhead}});
  EXPECT_DOUBLE_EQ(r.at("target").as_real(), 1.54);
  std::vector<double> steps;
  for (const double test : kAhead) steps.push_back(50 + 50 * (test + 0.51 - 1.54) / 0.5);
  const auto& optimizers = r.at("optimizers").as_array();
  EXPECT_NEAR(optimizers[1].at("final").at("steps_to_target").as_real(), median(steps), 1e-9);
  EXPECT_LE(optimizers[0].at("final").at("steps_to_target").as_real(), 100);
}

TEST(Results, NumbersOfTheDocumentedRecord) {
  const Value alone = results({{"muon", kAhead}}), shared = results({{"muon", kAhead}}, true);
  const Value& final = alone.at("optimizers").as_array()[0].at("final");
  const Estimate e = estimate(kBase);
  EXPECT_EQ(final.at("n").as_integer(), 5);
  EXPECT_DOUBLE_EQ(final.at("mean").as_real(), e.mean);
  EXPECT_DOUBLE_EQ(final.at("sd").as_real(), e.sd);
  EXPECT_DOUBLE_EQ(final.at("interval").as_array()[1].as_real(), e.high);
  EXPECT_DOUBLE_EQ(final.at("seconds_per_step").as_real(), 0.5);
  EXPECT_DOUBLE_EQ(shared.at("optimizers").as_array()[0].at("final").at("seconds_per_step").as_real(),
                   0.8);  // CPU time
  EXPECT_DOUBLE_EQ(alone.at("noise_sd").as_real(), pooled_noise({kBase, kAhead}));
  EXPECT_EQ(alone.at("corpus").as_string(), "text-1");
  EXPECT_EQ(alone.at("steps").as_integer(), 100);
  const auto& runs = alone.at("optimizers").as_array()[1].at("points").as_array()[1].at("runs").as_array();
  ASSERT_EQ(runs.size(), 6u) << "one tuning run and five final ones at the best point";
  EXPECT_EQ(runs[0].at("dir").as_string(), "runs/muon/matrix.lr=0.002-seed1") << "seen from the campaign's folder";
  EXPECT_EQ(runs[0].at("phase").as_string(), "tune");
  EXPECT_EQ(runs[5].at("phase").as_string(), "final");
  EXPECT_TRUE(runs[0].at("test").is_null()) << "tuning runs have no test loss";
}

// --- the table ---

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// Columns are two spaces or more apart.
size_t columns(const std::string& line) {
  size_t n = 1;
  for (size_t at = line.find("  "); at != std::string::npos; at = line.find("  ", line.find_first_not_of(' ', at))) ++n;
  return n;
}

std::string without_spaces(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (c != ' ' && c != '\n') out += c;
  return out;
}

TEST(Table, EveryLineFitsAndNothingOfTheVerdictIsLost) {
  const CampaignConfig c = campaign(4);
  const std::vector<double> base(kBase.begin(), kBase.end() - 1), other(kAlike.begin(), kAlike.end() - 1);
  CompetitorOutcome edge = competitor(c, "a-competitor-with-quite-a-long-name", other, 0);
  const Value r = make_results(c, {competitor(c, "adamw", base), competitor(c, "muon", base), edge});
  for (const int width : {60, 80, 120, 200}) {
    const std::string text = format_results(r, width);
    for (const std::string& line : lines_of(text)) EXPECT_LE(display_width(line), static_cast<size_t>(width)) << line;
    for (const char* key : {"verdict", "warnings"})
      for (const Value& sentence : r.at(key).as_array())
        EXPECT_TRUE(contains(without_spaces(text), without_spaces(sentence.as_string()))) << sentence.as_string();
  }
}

TEST(Table, AWideTerminalShowsMoreColumns) {
  const Value r = results({{"muon", kAhead}});
  const auto narrow = lines_of(format_results(r, 60)), wide = lines_of(format_results(r, 200));
  EXPECT_EQ(columns(wide[0]), 8u) << wide[0];
  EXPECT_LT(columns(narrow[0]), columns(wide[0])) << narrow[0];
  EXPECT_TRUE(contains(narrow[0], "test loss")) << narrow[0];
  EXPECT_TRUE(contains(wide[0], "s/step"));
  EXPECT_TRUE(contains(lines_of(format_results(results({{"muon", kAhead}}, true), 200))[0], "cpu s/step"));
}

TEST(Table, BestFirstAndRateBesideIt) {
  const auto lines = lines_of(format_results(results({{"worse", kBehind}, {"muon", kAhead}}), 200));
  EXPECT_TRUE(lines[1].starts_with("muon ")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("adamw ")) << lines[2];
  EXPECT_TRUE(lines[3].starts_with("worse ")) << lines[3];
  EXPECT_TRUE(contains(lines[1], " 0.002 ")) << lines[1];
  EXPECT_TRUE(contains(lines[1], "1.4100 +- 0.0224")) << lines[1];
}

/// Columns are counted in characters: a row of longer bytes must not lose a column that its
/// neighbours have.
TEST(Table, RowsHaveTheSameColumnsWhateverTheAlphabet) {
  const Value r = results({{"\xC2\xB5on-\xC2\xB5on-\xC2\xB5on-\xC2\xB5on", kAhead}});
  for (int width = 60; width <= 200; ++width) {
    const auto lines = lines_of(format_results(r, width));
    EXPECT_EQ(columns(lines[1]), columns(lines[2])) << width << "\n" << lines[1] << "\n" << lines[2];
  }
}

// --- what a run left behind ---

TEST(ReadOutcome, ARunWithoutAnEndIsMissing) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "campaign-read-outcome";
  std::filesystem::remove_all(folder);
  const PlannedRun plan{.run_dir = folder};
  EXPECT_EQ(read_outcome(plan).status, "missing");
  std::filesystem::create_directories(folder);
  const std::string start = R"({"event":"start","state_bytes_per_parameter":4.0,"corpus":"c"})"
                            "\n"
                            R"({"event":"eval","step":10,"split":"validation","loss":2.5})"
                            "\n"
                            R"({"event":"eval","step":10,"split":"test","loss":9.5})"
                            "\n";
  const std::string end = R"({"event":"end","status":"ok","final_val":2.5,"test":2.4,"seconds":3,"cpu_seconds":5})";
  std::ofstream(folder / "metrics.jsonl") << start << end;  // the last line is torn: no newline
  EXPECT_EQ(read_outcome(plan).status, "missing");
  EXPECT_EQ(read_outcome(plan).evaluations, (std::vector<std::pair<int64_t, double>>{{10, 2.5}}));
  std::ofstream(folder / "metrics.jsonl") << start << end << "\n";
  const RunOutcome r = read_outcome(plan);
  EXPECT_TRUE(r.ok());
  EXPECT_EQ(r.validation, 2.5);
  EXPECT_EQ(r.test, 2.4);
  EXPECT_EQ(r.seconds, 3);
  EXPECT_EQ(r.cpu_seconds, 5);
  EXPECT_EQ(r.state_bytes_per_parameter, 4);
  EXPECT_EQ(r.corpus, "c");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace schatten::testing
