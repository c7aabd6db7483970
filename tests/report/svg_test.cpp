#include <gtest/gtest.h>
#include <schatten/report/svg.h>

#include <algorithm>
#include <limits>

namespace schatten {
namespace {

TEST(Axis, CoversTheFiniteValuesOnly) {
  const Axis a = fit_axis("x", {1, 3, NAN, std::numeric_limits<double>::infinity()});
  EXPECT_LT(a.low, 1);
  EXPECT_GT(a.high, 3);
  EXPECT_LT(a.high, 4);
  const Axis log = fit_axis("x", {-1, 0, 1e-3, 1e-1}, true);
  EXPECT_GT(log.low, 0);
  EXPECT_LT(log.low, 1e-3);
}

TEST(Axis, SpanIsNeverZero) {
  for (const bool log : {false, true})
    for (const std::vector<double>& values : {std::vector<double>{}, {2.0}, {2.0, 2.0}, {NAN}}) {
      const Axis a = fit_axis("x", values, log);
      EXPECT_LT(a.low, a.high) << values.size() << log;
    }
}

TEST(Ticks, AreRoundFewAndInside) {
  EXPECT_EQ(ticks({.low = 0, .high = 10}, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks({.low = 0.9, .high = 120, .log = true}, 5), (std::vector<double>{1, 3, 10, 30, 100}));
  for (const double low : {1e-8, 1e-3, 0.7, 40.0})
    for (const double factor : {1.3, 10.0, 1e3, 1e7})
      for (const bool log : {false, true})
        for (const double t : ticks({.low = low, .high = low * factor, .log = log}, 4)) {
          EXPECT_GE(t, low * (1 - 1e-12));
          EXPECT_LE(t, low * factor * (1 + 1e-12));
        }
  EXPECT_LE(ticks({.low = 1e-30, .high = 1e30, .log = true}, 4).size(), 5u);
}

TEST(TickText, IsShort) {
  EXPECT_EQ(tick_text(0), "0");
  EXPECT_EQ(tick_text(0.02), "0.02");
  EXPECT_EQ(tick_text(1e-4), "1e-4");
  EXPECT_EQ(tick_text(2.4), "2.4");
  EXPECT_EQ(tick_text(-0.5), "-0.5");
  EXPECT_EQ(tick_text(300), "300");
  EXPECT_EQ(tick_text(2e6), "2e6");
}

TEST(Plot, BreaksLinesAtMissingValuesAndClips) {
  Plot plot({.low = 0, .high = 1}, {.low = 0, .high = 1});
  plot.line(0, {{0, 0.5}, {0.5, NAN}, {0.8, 0.5}, {1, 1e9}});
  const std::string svg = plot.str("title", "what is < seen");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  const size_t d = svg.find("<path d=\"");
  const std::string path = svg.substr(d, svg.find("/>", d) - d);
  EXPECT_EQ(std::count(path.begin(), path.end(), 'M'), 2);
  EXPECT_NE(svg.find("what is &lt; seen"), std::string::npos);
}

TEST(Plot, LabelsDoNotOverlap) {
  Plot plot({.low = 0, .high = 1}, {.low = 0, .high = 1});
  for (int i = 0; i < 4; ++i) plot.end_label(i, {1, 0.5}, "label" + std::to_string(i));
  const std::string svg = plot.str("t", "d");
  std::vector<double> y;
  for (int i = 0; i < 4; ++i) {
    const size_t text = svg.find("label" + std::to_string(i));
    const size_t at = svg.rfind("y=\"", text);
    y.push_back(std::stod(svg.substr(at + 3)));
  }
  std::sort(y.begin(), y.end());
  for (size_t i = 1; i < y.size(); ++i) EXPECT_GE(y[i] - y[i - 1], 12);
}

TEST(Bars, EmptyAndZeroDoNotDivide) {
  EXPECT_EQ(bars({}, "t", "d").find("nan"), std::string::npos);
  EXPECT_EQ(bars({{.label = "a", .parts = {0, NAN}, .text = "-"}}, "t", "d").find("nan"), std::string::npos);
}

}  // namespace
}  // namespace schatten
