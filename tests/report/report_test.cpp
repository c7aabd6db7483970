// A report is judged as text: what it claims, that it stands alone, and that nothing in it can break out.
#include <gtest/gtest.h>
#include <schatten/campaign/results.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/report/report.h>

#include <cmath>
#include <fstream>
#include <regex>

namespace schatten {
namespace {

namespace fs = std::filesystem;

class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("report-" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  static Value summary(double top) {
    Value values = Value::array(), ranks = Value::array();
    for (int i = 1; i <= 8; ++i) {
      values.push_back(top / i);
      ranks.push_back(i);
    }
    return Value::Table{{"sigma_max", top}, {"singular_values", values}, {"ranks", ranks}};
  }

  void write_run(const fs::path& run, int64_t seed, double loss, bool spectra,
                 const std::string& sample = "plain text") const {
    std::string lines = to_json(Value::Table{{"event", "start"},
                                             {"step", 0},
                                             {"seed", seed},
                                             {"parameters", 1000},
                                             {"corpus", "abc"},
                                             {"state_bytes", 4000},
                                             {"state_bytes_per_parameter", 4.0},
                                             {"concurrent", false}}) +
                        "\n";
    for (int64_t step = 10; step <= 50; step += 10)
      lines += to_json(Value::Table{{"event", "eval"},
                                    {"step", step},
                                    {"split", "validation"},
                                    {"loss", loss + 1.0 / static_cast<double>(step)},
                                    {"seconds", 0.1 * static_cast<double>(step)},
                                    {"cpu_seconds", 0.2 * static_cast<double>(step)}}) +
               "\n";
    lines += to_json(Value::Table{
                 {"event", "end"},
                 {"step", 50},
                 {"status", "ok"},
                 {"best_val", loss},
                 {"final_val", loss},
                 {"test", loss - 0.01},
                 {"seconds", 5.0},
                 {"cpu_seconds", 10.0},
                 {"tokens_per_second", 1234.0},
                 {"peak_bytes", 1 << 26},
                 {"shares",
                  Value::Table{
                      {"forward", 0.3}, {"backward", 0.6}, {"optimizer", 0.05}, {"data", 0.01}, {"other", 0.04}}}}) +
             "\n";
    write(run / "metrics.jsonl", lines);
    write(run / "config.toml",
          "name = \"x\"\nseed = " + std::to_string(seed) + "\n[optimizer.matrix]\nlr = " + std::to_string(loss) + "\n");
    write(
        run / "environment.json",
        R"({"torch":"2.13.0","cpu":"a <b>cpu</b>","memory_bytes":1048576,"command":["schatten","train","a file.toml"]})");
    write(run / "samples.txt", "--- step 20\nolder\n--- step 50\n" + sample + "\n");
    if (!spectra) return;
    std::string rows;
    for (int64_t step = 10; step <= 50; step += 20)
      for (int64_t block = 0; block < 2; ++block)
        rows +=
            to_json(Value::Table{{"step", step},
                                 {"name", "layers." + std::to_string(block) + ".mlp.up.weight"},
                                 {"block", block},
                                 {"shape", Value::Array{8, 8}},
                                 {"weight", summary(3)},
                                 {"update", summary(1)},
                                 {"alpha", Value::Table{{"alpha", 3.5}, {"distance", 0.05}, {"enough", block == 0}}},
                                 {"alpha_shuffled", Value::Table{{"alpha", 7.5}}}}) +
            "\n";
    write(run / "spectra.jsonl", rows);
  }

  /// Two optimizers, two rates, `losses` per final seed; the same code that a real campaign uses makes results.json.
  void write_campaign(const std::vector<double>& a, const std::vector<double>& b, const std::string& name_b = "muon",
                      const std::string& sample = "text") {
    CampaignConfig c;
    c.name = "study";
    c.directory = folder_.string();
    c.baseline = "adamw";
    c.final_seeds.clear();
    for (size_t i = 0; i < a.size(); ++i) c.final_seeds.push_back(static_cast<int64_t>(100 + i));
    std::vector<CompetitorOutcome> outcomes;
    for (const auto& [name, losses] : {std::pair{std::string("adamw"), a}, std::pair{name_b, b}}) {
      Competitor competitor{.name = name};
      competitor.grid["optimizer.matrix.lr"] = Value::Array{1e-3, 3e-3, 1e-2};
      CompetitorOutcome o{.competitor = competitor, .points = expand_grid(competitor.grid), .best = 1};
      for (size_t p = 0; p < 3; ++p) {
        RunOutcome r{.plan = plan_run(c, competitor, o.points[p], 1, Phase::tune),
                     .status = p == 2 ? "diverged" : "ok"};
        r.validation = p == 2 ? NAN : 2.0 - 0.1 * static_cast<double>(p);
        o.tuning.push_back({r});
      }
      for (size_t i = 0; i < losses.size(); ++i) {
        const PlannedRun plan = plan_run(c, competitor, o.points[1], c.final_seeds[i], Phase::final);
        write_run(plan.run_dir, plan.seed, losses[i], true, sample);
        o.final.push_back(read_outcome(plan));
      }
      outcomes.push_back(o);
    }
    write(folder_ / "results.json", to_json(make_results(c, outcomes)));
  }

  std::string html() { return read_file(write_report({folder_}).html); }

  fs::path folder_;
};

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST_F(ReportTest, EveryFigureHasTitleDescriptionCaptionAndItsNumbers) {
  write_campaign({1.50, 1.52, 1.51}, {1.40, 1.41, 1.42});
  const std::string page = html();
  for (const char* id : {"loss-steps", "loss-time", "differences", "tuning-0", "spectra-weight", "spectra-update",
                         "alpha", "time", "memory"})
    EXPECT_EQ(count(page, "<figure id=\"" + std::string(id) + "\""), 1u) << id;
  EXPECT_EQ(count(page, "<figure "), count(page, "<figcaption>"));
  EXPECT_EQ(count(page, "<figure "), count(page, "href=\"data:text/csv"));
  EXPECT_EQ(count(page, "role=\"img\""), count(page, "<title>") - 1);  // the page has one itself
  EXPECT_EQ(count(page, "role=\"img\""), count(page, "<desc>"));
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("inf\""), std::string::npos);
}

TEST_F(ReportTest, StandsAlone) {
  write_campaign({1.50, 1.52}, {1.40, 1.41});
  const std::string page = html();
  for (const char* outside : {"http:", "https:", "<script", "<link", "<img", "@import", "url("})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(page.find("width=device-width"), std::string::npos);
}

TEST_F(ReportTest, VerdictComesFirstAndNamesTheDifference) {
  write_campaign({1.50, 1.52, 1.51, 1.53}, {1.40, 1.41, 1.42, 1.43});
  const std::string page = html();
  const size_t verdict = page.find("muon is ahead of adamw by 0.1000");
  ASSERT_NE(verdict, std::string::npos);
  EXPECT_LT(verdict, page.find("<figure"));
  EXPECT_LT(verdict, page.find("<table"));
  EXPECT_EQ(count(page, "class=\"decided\""), 1u);
  EXPECT_LT(page.find("<td><span class=\"swatch c1\"></span>muon"),
            page.find("<td><span class=\"swatch c0\"></span>adamw"));  // best first
}

TEST_F(ReportTest, NoWinnerWhileTheIntervalContainsZero) {
  write_campaign({1.50, 1.60, 1.40}, {1.45, 1.44, 1.58});
  const std::string page = html(), markdown = read_file(folder_ / "report.md");
  EXPECT_EQ(page.find("ahead of"), std::string::npos);
  EXPECT_EQ(page.find("behind"), std::string::npos);
  EXPECT_EQ(count(page, "class=\"decided\""), 0u);
  EXPECT_NE(markdown.find("No difference between muon and adamw can be claimed"), std::string::npos);
}

TEST_F(ReportTest, HostileTextIsShownNotObeyed) {
  write_campaign({1.5, 1.6}, {1.4, 1.5}, "a<b&\"'c", "</pre><script>alert(1)</script>\x1b[31m");
  const std::string page = html();
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find('\x1b'), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_NE(page.find("a&lt;b&amp;&quot;&#39;c"), std::string::npos);
  EXPECT_NE(page.find("a &lt;b&gt;cpu"), std::string::npos);
}

TEST_F(ReportTest, CsvHoldsTheNumbersOfTheFigure) {
  write_campaign({1.5, 1.6}, {1.4, 1.5});
  const std::string page = html();
  const size_t at = page.find("data:text/csv;charset=utf-8,", page.find("id=\"differences\""));
  std::string csv;
  for (size_t i = at + 28; page[i] != '"'; ++i) {
    if (page[i] == '%') {
      csv += static_cast<char>(std::stoi(page.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      csv += page[i];
    }
  }
  EXPECT_EQ(csv.substr(0, csv.find('\n')), "optimizer,seed,difference (nats per token)");
  EXPECT_NE(csv.find("\nmuon,100,-0.1\n"), std::string::npos) << csv;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 2 + 3);
}

TEST_F(ReportTest, SettingsThatDifferAndTheWayToReproduce) {
  write_campaign({1.5, 1.6}, {1.4, 1.5});
  const std::string markdown = (html(), read_file(folder_ / "report.md"));
  EXPECT_NE(markdown.find("| optimizer.matrix.lr | 1.5 | 1.4 |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("schatten campaign"), std::string::npos);
}

TEST_F(ReportTest, RunsSideBySideClaimNothing) {
  write_run(folder_ / "a", 1, 1.5, true);
  write_run(folder_ / "b", 1, 1.4, false);
  const ReportFiles files = write_report({folder_ / "a", folder_ / "b"}, folder_ / "out");
  EXPECT_EQ(files.html, folder_ / "out" / "report.html");
  const std::string page = read_file(files.html);
  EXPECT_NE(page.find("Nothing is claimed"), std::string::npos);
  EXPECT_EQ(page.find("id=\"differences\""), std::string::npos);
  EXPECT_NE(page.find("id=\"loss-steps\""), std::string::npos);
  EXPECT_NE(page.find("schatten train &#39;a file.toml&#39;"), std::string::npos);
  EXPECT_EQ(page.find("older"), std::string::npos);  // the last sample only
  EXPECT_NE(page.find("plain text"), std::string::npos);
}

TEST_F(ReportTest, AnUnfinishedRunIsShownAsSuch) {
  write_run(folder_ / "a", 1, 1.5, false);
  const std::string all = read_file(folder_ / "a" / "metrics.jsonl");
  std::ofstream(folder_ / "a" / "metrics.jsonl") << all.substr(0, all.find("{\"event\":\"end\"") + 20);  // torn
  EXPECT_NE(read_file(write_report({folder_ / "a"}).html).find("<td>unfinished</td>"), std::string::npos);
}

TEST_F(ReportTest, NeitherRunNorCampaign) {
  try {
    write_report({folder_});
    FAIL() << "accepted an empty folder";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("metrics.jsonl"), std::string::npos) << e.what();
  }
  EXPECT_FALSE(fs::exists(folder_ / "report.html"));
}

TEST_F(ReportTest, DamagedResultsAreAnErrorThatNamesTheFile) {
  write(folder_ / "results.json", "{\"optimizers\": [");
  try {
    write_report({folder_});
    FAIL() << "accepted a truncated results.json";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("results.json"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace schatten
