#include <schatten/campaign/statistics.h>
#include <schatten/report/figures_impl.h>
#include <schatten/report/svg.h>

#include <algorithm>
#include <map>
#include <optional>

namespace schatten {

namespace {

// ---- loss curves ------------------------------------------------------------------------------

/// Over the runs of a group at one step.
struct Spread {
  int64_t step = 0;
  double low = NAN, middle = NAN, high = NAN, seconds = NAN;
  size_t n = 0;
};

std::vector<Spread> spread_of(const StudyGroup& group, bool concurrent) {
  std::map<int64_t, std::vector<Evaluation>> by_step;
  for (const Run& r : group.runs)
    for (const Evaluation& e : r.evaluations) by_step[e.step].push_back(e);
  std::vector<Spread> out;
  for (const auto& [step, all] : by_step) {
    if (all.size() != group.runs.size()) continue;  // a median over changing runs would jump
    std::vector<double> losses, times;
    for (const Evaluation& e : all) {
      losses.push_back(e.loss);
      times.push_back(concurrent ? e.cpu_seconds : e.seconds);
    }
    const auto [low, high] = std::minmax_element(losses.begin(), losses.end());
    out.push_back({step, *low, median(losses), *high, median(times), all.size()});
  }
  return out;
}

/// The first evaluations lie far above the rest and would flatten what matters: the axis starts below them.
Axis loss_axis(const std::vector<std::vector<Spread>>& spreads) {
  int64_t last = 0;
  for (const auto& s : spreads)
    if (!s.empty()) last = std::max(last, s.back().step);
  std::vector<double> shown;
  for (const auto& s : spreads)
    for (const Spread& p : s)
      if (p.step * 5 >= last || s.size() < 4) shown.insert(shown.end(), {p.low, p.high});
  return fit_axis("loss", shown);
}

}  // namespace

std::optional<Figure> loss_figure(const Study& study, bool against_time) {
  std::vector<std::vector<Spread>> spreads;
  std::vector<double> xs;
  const auto x_of = [&](const Spread& s) { return against_time ? s.seconds : static_cast<double>(s.step); };
  for (const StudyGroup& g : study.groups) {
    spreads.push_back(spread_of(g, study.concurrent()));
    for (const Spread& s : spreads.back()) xs.push_back(x_of(s));
  }
  if (xs.empty()) return std::nullopt;
  const std::string unit = !against_time        ? "step"
                           : study.concurrent() ? "CPU seconds of training"
                                                : "seconds of training";
  Axis x = fit_axis(unit, xs);
  x.low = std::max(0.0, x.low);
  Plot plot(x, loss_axis(spreads));
  plot.reserve(group_names(study));
  Figure f{.id = against_time ? "loss-time" : "loss-steps",
           .title = std::string("Validation loss against ") + (against_time ? "time" : "steps")};
  f.data.head = {"run or optimizer", "step", unit == "step" ? "" : unit, "median", "least", "greatest", "runs"};
  if (!against_time) f.data.head.erase(f.data.head.begin() + 2);
  for (size_t i = 0; i < spreads.size(); ++i) {
    Curve low, middle, high;
    for (const Spread& s : spreads[i]) {
      low.push_back({x_of(s), s.low});
      middle.push_back({x_of(s), s.middle});
      high.push_back({x_of(s), s.high});
      std::vector<std::string> row{study.groups[i].name, std::to_string(s.step), number(s.middle),
                                   number(s.low),        number(s.high),         std::to_string(s.n)};
      if (against_time) row.insert(row.begin() + 2, number(s.seconds, "%.3f"));
      f.data.rows.push_back(std::move(row));
    }
    const int colour = static_cast<int>(i);
    if (study.groups[i].runs.size() > 1) plot.band(colour, low, high);
    plot.line(colour, middle);
    plot.dots(colour, middle, 2.2);
    if (!middle.empty()) plot.end_label(colour, middle.back(), study.groups[i].name);
  }
  f.caption = study.claims() ? "Line: median over the final seeds; band: least to greatest. Lower is better."
                             : "One line per run. Lower is better.";
  f.caption += against_time ? " Evaluation is not counted." : "";
  if (against_time && study.concurrent()) f.caption += " Runs shared the machine, so this is CPU time.";
  f.panels.push_back({"", plot.str(f.title, f.caption + " Curves: " + joined(group_names(study)) + ".")});
  return f;
}

// ---- paired differences -----------------------------------------------------------------------

std::optional<Figure> difference_figure(const Study& study) {
  if (!study.claims() || study.results.at("comparisons").as_array().empty()) return std::nullopt;
  const std::string baseline = study.results.at("baseline").as_string();
  const auto group = [&](const std::string& name) {
    for (size_t i = 0; i < study.groups.size(); ++i)
      if (study.groups[i].name == name) return i;
    return study.groups.size();
  };
  const size_t against = group(baseline);
  Figure f{.id = "differences", .title = "Difference to " + baseline + " on test, seed by seed"};
  f.data.head = {"optimizer", "seed", "difference (nats per token)"};
  struct Row {
    size_t group;
    std::vector<double> pairs;
    double mean, low, high;
  };
  std::vector<Row> rows;
  std::vector<double> xs{0};
  for (const Value& c : study.results.at("comparisons").as_array()) {
    const size_t g = group(c.at("optimizer").as_string());
    if (g >= study.groups.size() || against >= study.groups.size()) continue;
    const auto& interval = c.at("interval").as_array();
    const auto real = [](const Value& v) { return v.is_number() ? v.as_real() : NAN; };
    Row row{.group = g, .mean = c.real_or("difference", NAN), .low = real(interval[0]), .high = real(interval[1])};
    for (const Run& a : study.groups[g].runs)
      for (const Run& b : study.groups[against].runs)
        if (a.seed == b.seed) {
          row.pairs.push_back(a.test() - b.test());
          f.data.rows.push_back({study.groups[g].name, std::to_string(a.seed), number(row.pairs.back())});
        }
    f.data.rows.push_back({study.groups[g].name, "mean", number(row.mean)});
    f.data.rows.push_back({study.groups[g].name, "95 % low", number(row.low)});
    f.data.rows.push_back({study.groups[g].name, "95 % high", number(row.high)});
    xs.insert(xs.end(), row.pairs.begin(), row.pairs.end());
    xs.insert(xs.end(), {row.low, row.high});
    rows.push_back(std::move(row));
  }
  const double count = static_cast<double>(rows.size());
  const Axis x = fit_axis("difference in loss (nats per token); left of zero is better", xs);
  Plot plot(x, {.low = -0.5, .high = count - 0.5, .hidden = true}, 400, 62 + 44 * count);
  plot.reserve(group_names(study));
  plot.vertical(0);
  for (size_t i = 0; i < rows.size(); ++i) {
    const double y = count - 1 - static_cast<double>(i);
    const int colour = static_cast<int>(rows[i].group);
    plot.line(colour, {{rows[i].low, y}, {rows[i].high, y}}, "thick");
    plot.ring(colour, {rows[i].mean, y});
    Curve dots;
    for (const double d : rows[i].pairs) dots.push_back({d, y - 0.22});
    plot.dots(colour, dots, 2.6);
    plot.end_label(colour, {x.high, y}, study.groups[rows[i].group].name);
  }
  f.caption =
      "Dots: one pair of runs with the same initial weights and data order. Ring and bar: their mean and its 95 % "
      "t-interval. "
      "Nothing is claimed while the bar touches zero.";
  f.panels.push_back({"", plot.str(f.title, f.caption)});
  return f;
}

namespace {

// ---- final loss against a tuned key -------------------------------------------------------------

struct Tuned {
  double x = NAN, loss = NAN;
  int64_t diverged = 0;
};

/// Least loss for each value of the key over whatever else was tuned.
std::vector<Tuned> tuned(const Value& optimizer, const std::string& key) {
  std::map<double, Tuned> best;
  for (const Value& p : optimizer.at("points").as_array()) {
    const Value* v = p.at("point").find(key);
    if (!v || !v->is_number()) continue;
    Tuned& t = best[v->as_real()];
    t.x = v->as_real();
    t.diverged += p.integer_or("diverged", 0);
    const double loss = p.real_or("val_mean", NAN);
    if (!(t.loss <= loss)) t.loss = std::isfinite(loss) ? loss : t.loss;
  }
  std::vector<Tuned> out;
  for (const auto& [x, t] : best) out.push_back(t);
  return out;
}

}  // namespace

std::vector<std::string> tuned_keys(const Study& study) {
  std::vector<std::string> keys;
  for (const Value& o : study.results.at("optimizers").as_array())
    for (const Value& p : o.at("points").as_array())
      for (const auto& [key, value] : p.at("point").as_table())
        if (std::find(keys.begin(), keys.end(), key) == keys.end() && tuned(o, key).size() > 1) keys.push_back(key);
  return keys;
}

Figure tuning_figure(const Study& study, const std::string& key, size_t index) {
  Figure f{.id = "tuning-" + std::to_string(index), .title = "Final validation loss against " + key};
  f.data.head = {"optimizer", key, "validation loss", "diverged runs", "chosen"};
  std::vector<std::vector<Tuned>> curves;
  std::vector<double> xs, ys;
  bool positive = true;
  const auto& optimizers = study.results.at("optimizers").as_array();
  for (const Value& o : optimizers) {
    curves.push_back(tuned(o, key));
    for (const Tuned& t : curves.back()) {
      xs.push_back(t.x);
      ys.push_back(t.loss);
      positive = positive && t.x > 0;
    }
  }
  Plot plot(fit_axis(key, xs, positive), fit_axis("loss", ys));
  plot.reserve(group_names(study));
  std::string edges;
  for (size_t i = 0; i < curves.size(); ++i) {
    const Value* best = optimizers[i].find("best");
    const double chosen = best ? best->real_or(key, NAN) : NAN;
    bool edge = false;
    if (const Value* list = optimizers[i].find("edge"))
      for (const Value& e : list->as_array()) edge = edge || e.as_string() == key;
    Curve curve;
    for (const Tuned& t : curves[i]) {
      curve.push_back({t.x, t.loss});
      if (t.diverged > 0 && !std::isfinite(t.loss)) plot.cross(static_cast<int>(i), {t.x, 1e30});
      if (t.x == chosen) plot.ring(static_cast<int>(i), curve.back());
      f.data.rows.push_back({study.groups[i].name, number(t.x), number(t.loss), std::to_string(t.diverged),
                             t.x == chosen ? edge ? "yes, on the edge" : "yes" : ""});
    }
    if (edge) edges += (edges.empty() ? "" : ", ") + study.groups[i].name;
    plot.line(static_cast<int>(i), curve);
    plot.dots(static_cast<int>(i), curve);
    for (auto it = curve.rbegin(); it != curve.rend(); ++it)
      if (std::isfinite(it->y)) {
        plot.end_label(static_cast<int>(i), *it, study.groups[i].name);
        break;
      }
  }
  f.caption =
      "Mean over the tuning seeds; ring: the value chosen; cross: diverged. A flat valley is a robust optimizer.";
  f.caption += edges.empty() ? " Every chosen value lies inside its grid." : " On the edge of its grid: " + edges + ".";
  f.panels.push_back({"", plot.str(f.title, f.caption)});
  return f;
}

}  // namespace schatten
