#include <schatten/campaign/statistics.h>
#include <schatten/report/figures.h>
#include <schatten/report/svg.h>
#include <schatten/train/terminal.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace schatten {

namespace {

constexpr const char* kLoss = "loss (nats per token)";

std::string number(double v, const char* format = "%.6g") {
  if (!std::isfinite(v)) return "";
  char text[40];
  std::snprintf(text, sizeof text, format, v);
  return text;
}

std::vector<std::string> group_names(const Study& study) {
  std::vector<std::string> names;
  for (const Group& g : study.groups) names.push_back(g.name);
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

// ---- loss curves ------------------------------------------------------------------------------

/// Over the runs of a group at one step.
struct Spread {
  int64_t step = 0;
  double low = NAN, middle = NAN, high = NAN, seconds = NAN;
  size_t n = 0;
};

std::vector<Spread> spread_of(const Group& group, bool concurrent) {
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

std::optional<Figure> loss_figure(const Study& study, bool against_time) {
  std::vector<std::vector<Spread>> spreads;
  std::vector<double> xs;
  const auto x_of = [&](const Spread& s) { return against_time ? s.seconds : static_cast<double>(s.step); };
  for (const Group& g : study.groups) {
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

// ---- spectra ------------------------------------------------------------------------------------

/// "layers.3.mlp.up.weight" -> "mlp.up"
std::string kind_of(const std::string& name, int64_t block) {
  std::string kind = name;
  const std::string number = "." + std::to_string(block) + ".";
  if (const size_t at = kind.find(number); at != std::string::npos) kind = kind.substr(at + number.size());
  if (kind.ends_with(".weight")) kind.resize(kind.size() - 7);
  return kind;
}

const Run* run_with_spectra(const Group& g) {
  for (const Run& r : g.runs)
    if (!r.spectra.empty()) return &r;
  return nullptr;
}

/// The widest matrix of the middle block.
std::string representative(const Run& run) {
  int64_t blocks = 0, most = 0;
  for (const Value& r : run.spectra) blocks = std::max(blocks, r.integer_or("block", 0) + 1);
  std::string name;
  for (const Value& r : run.spectra) {
    const auto& shape = r.at("shape").as_array();
    const int64_t size = shape[0].as_integer() * shape[1].as_integer();
    if (r.integer_or("block", 0) == blocks / 2 && size > most) {
      most = size;
      name = r.at("name").as_string();
    }
  }
  return name;
}

std::vector<int64_t> three_moments(const Run& run) {
  std::set<int64_t> steps;
  for (const Value& r : run.spectra) steps.insert(r.integer_or("step", 0));
  const std::vector<int64_t> all(steps.begin(), steps.end());
  if (all.size() <= 3) return all;
  return {all.front(), all[all.size() / 2], all.back()};
}

Curve relative_spectrum(const Value& summary) {
  Curve curve;
  const Value *values = summary.find("singular_values"), *ranks = summary.find("ranks");
  if (!values || !ranks) return curve;
  const double top = summary.real_or("sigma_max", NAN);
  for (size_t i = 0; i < values->as_array().size() && i < ranks->as_array().size(); ++i) {
    const Value &v = values->as_array()[i], &k = ranks->as_array()[i];
    if (v.is_number() && k.is_number() && v.as_real() > 1e-7 * top) curve.push_back({k.as_real(), v.as_real() / top});
  }
  return curve;
}

std::optional<Figure> spectra_figure(const Study& study, const std::string& what) {
  Figure f{.id = "spectra-" + what, .title = "Singular values of the " + what, .multiples = true};
  f.data.head = {"optimizer", "matrix", "step", "rank", "singular value / largest", "largest"};
  struct Item {
    size_t group;
    std::string name;
    std::vector<std::pair<int64_t, Curve>> moments;
  };
  std::vector<Item> items;
  std::vector<double> xs, ys;
  for (size_t g = 0; g < study.groups.size(); ++g) {
    const Run* run = run_with_spectra(study.groups[g]);
    if (!run) continue;
    Item item{.group = g, .name = representative(*run)};
    for (const int64_t step : three_moments(*run))
      for (const Value& r : run->spectra) {
        if (r.integer_or("step", 0) != step || r.at("name").as_string() != item.name) continue;
        const Value* summary = r.find(what);
        if (!summary) continue;
        Curve curve = relative_spectrum(*summary);
        for (const XY& p : curve) {
          xs.push_back(p.x);
          ys.push_back(p.y);
          f.data.rows.push_back({study.groups[g].name, item.name, std::to_string(step), number(p.x),
                                 number(p.y, "%.5g"), number(summary->real_or("sigma_max", NAN), "%.5g")});
        }
        item.moments.emplace_back(step, std::move(curve));
      }
    if (!item.moments.empty()) items.push_back(std::move(item));
  }
  if (items.empty() || xs.empty()) return std::nullopt;
  Axis y = fit_axis("", ys, true);
  y.low = std::max(y.low, 1e-4);
  std::string steps;
  for (const auto& [step, curve] : items[0].moments) steps += (steps.empty() ? "" : ", ") + std::to_string(step);
  f.caption = "Of " + items[0].name + ", relative to the largest, by rank, log-log; steps " + steps +
              " from light to strong. A straight line is a heavy tail, a flat one an orthogonal update.";
  for (const Item& item : items) {
    Plot plot(fit_axis("rank", xs, true), y, 200, 160);
    for (size_t k = 0; k < item.moments.size(); ++k) {
      const char* css[] = {"early", "middle", "late"};
      plot.line(static_cast<int>(item.group), item.moments[k].second, css[k + 3 - item.moments.size()]);
    }
    const std::string& name = study.groups[item.group].name;
    f.panels.push_back({name, plot.str(f.title + ": " + name, f.caption)});
  }
  return f;
}

std::optional<Figure> alpha_figure(const Study& study) {
  Figure f{.id = "alpha", .title = "Power-law exponent alpha of the weights, by depth", .multiples = true};
  f.data.head = {"optimizer", "matrix", "block", "alpha", "fit distance", "alpha, shuffled", "runs"};
  struct Cell {
    std::vector<double> alpha, distance, shuffled;
  };
  std::vector<std::string> kinds;  // in the order of the model
  std::map<std::string, std::map<size_t, std::map<int64_t, Cell>>> cells;
  int64_t without = 0, total = 0;
  for (size_t g = 0; g < study.groups.size(); ++g)
    for (const Run& run : study.groups[g].runs) {
      const auto moments = three_moments(run);
      for (const Value& r : run.spectra) {
        if (r.integer_or("step", 0) != moments.back()) continue;
        const int64_t block = r.integer_or("block", 0);
        const std::string kind = kind_of(r.at("name").as_string(), block);
        if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
        const Value &fit = r.at("alpha"), &shuffled = r.at("alpha_shuffled");
        ++total;
        if (const Value* enough = fit.find("enough"); enough && enough->is_bool() && !enough->as_bool()) {
          ++without;
          continue;
        }
        Cell& cell = cells[kind][g][block];
        cell.alpha.push_back(fit.real_or("alpha", NAN));
        cell.distance.push_back(fit.real_or("distance", NAN));
        cell.shuffled.push_back(shuffled.real_or("alpha", NAN));
      }
    }
  if (cells.empty()) return std::nullopt;
  std::vector<double> xs, ys;
  for (const auto& [kind, groups] : cells)
    for (const auto& [g, blocks] : groups)
      for (const auto& [block, cell] : blocks) {
        xs.push_back(static_cast<double>(block));
        ys.insert(ys.end(), {median(cell.alpha), median(cell.shuffled)});
      }
  const Axis x = fit_axis("block", xs), y = fit_axis("alpha", ys);
  f.caption =
      "Median over the runs at the last record; dashed: the same entries shuffled, so without structure. A smaller "
      "alpha is a heavier tail.";
  if (without > 0)
    f.caption += " " + std::to_string(without) + " of " + std::to_string(total) +
                 " fits had too few eigenvalues and are left out.";
  std::string colours;
  for (const Group& g : study.groups) colours += (colours.empty() ? "" : ", ") + g.name;
  for (const std::string& kind : kinds) {
    Plot plot(x, y, 200, 160);
    for (const auto& [g, blocks] : cells[kind]) {
      Curve alpha, shuffled;
      for (const auto& [block, cell] : blocks) {
        alpha.push_back({static_cast<double>(block), median(cell.alpha)});
        shuffled.push_back({static_cast<double>(block), median(cell.shuffled)});
        f.data.rows.push_back({study.groups[g].name, kind, std::to_string(block), number(alpha.back().y, "%.4g"),
                               number(median(cell.distance), "%.3g"), number(shuffled.back().y, "%.4g"),
                               std::to_string(cell.alpha.size())});
      }
      plot.line(static_cast<int>(g), shuffled, "dashed");
      plot.line(static_cast<int>(g), alpha);
      plot.dots(static_cast<int>(g), alpha, 2);
    }
    f.panels.push_back({kind, plot.str("alpha of " + kind, f.caption + " Optimizers: " + colours + ".")});
  }
  return f;
}

// ---- time and memory ------------------------------------------------------------------------------

template <class Get>
double median_over(const Group& g, Get get) {
  std::vector<double> all;
  for (const Run& r : g.runs)
    if (const double v = get(r); std::isfinite(v)) all.push_back(v);
  return median(all);
}

std::optional<Figure> time_figure(const Study& study) {
  const std::vector<std::string> parts{"forward", "backward", "optimizer", "data", "spectra", "other"};
  const bool cpu = study.concurrent();
  Figure f{.id = "time", .title = cpu ? "CPU time per step" : "Time per step"};
  f.data.head = {"run or optimizer", cpu ? "CPU ms per step" : "ms per step"};
  for (const std::string& p : parts) f.data.head.push_back(p + " (share)");
  std::vector<Bar> rows;
  for (size_t g = 0; g < study.groups.size(); ++g) {
    const double per_step = median_over(study.groups[g], [&](const Run& r) {
      return 1e3 * r.end.real_or(cpu ? "cpu_seconds" : "seconds", NAN) /
             static_cast<double>(r.end.integer_or("step", 0));
    });
    if (!std::isfinite(per_step)) continue;
    Bar bar{.label = study.groups[g].name, .colour = static_cast<int>(g), .accent = 2};
    std::vector<std::string> row{bar.label, number(per_step, "%.2f")};
    double optimizer = NAN;
    for (const std::string& p : parts) {
      const double share = median_over(study.groups[g], [&](const Run& r) {
        return r.end.find("shares") ? r.end.at("shares").real_or(p, NAN) : NAN;
      });
      bar.parts.push_back(share * per_step);
      row.push_back(number(share, "%.4f"));
      if (p == "optimizer") optimizer = share;
    }
    bar.text = number(per_step, "%.1f ms") +
               (std::isfinite(optimizer) ? " (" + number(100 * optimizer, "%.1f %% optimizer)") : "");
    rows.push_back(std::move(bar));
    f.data.rows.push_back(std::move(row));
  }
  if (rows.empty()) return std::nullopt;
  f.caption =
      "Forward and backward in grey, the optimizer in its colour, data and everything else after it. Without "
      "evaluation.";
  f.panels.push_back({"", bars(rows, f.title, f.caption)});
  return f;
}

std::optional<Figure> memory_figure(const Study& study) {
  Figure f{.id = "memory", .title = "Memory"};
  f.data.head = {"run or optimizer", "optimizer state (bytes per parameter)", "optimizer state (bytes)",
                 "peak memory of the process (bytes)"};
  std::vector<Bar> state, peak;
  for (size_t g = 0; g < study.groups.size(); ++g) {
    const Group& group = study.groups[g];
    const double per =
        median_over(group, [](const Run& r) { return r.start.real_or("state_bytes_per_parameter", NAN); });
    const double bytes = median_over(group, [](const Run& r) { return r.start.real_or("state_bytes", NAN); });
    const double most = median_over(group, [](const Run& r) { return r.end.real_or("peak_bytes", NAN); });
    if (!std::isfinite(per)) continue;
    state.push_back({.label = group.name,
                     .colour = static_cast<int>(g),
                     .parts = {per},
                     .accent = 0,
                     .text = number(per, "%.2f B/parameter")});
    peak.push_back({.label = group.name,
                    .colour = static_cast<int>(g),
                    .parts = {most / 1048576},
                    .accent = 0,
                    .text = std::isfinite(most) ? number(most / 1048576, "%.0f MiB") : "-"});
    f.data.rows.push_back({group.name, number(per), number(bytes, "%.0f"), number(most, "%.0f")});
  }
  if (state.empty()) return std::nullopt;
  f.caption =
      "State: what the optimizer keeps between steps, planned before the run. Peak: the whole process, LibTorch "
      "included.";
  f.panels.push_back({"Optimizer state", bars(state, "Optimizer state, bytes per parameter", f.caption)});
  f.panels.push_back({"Peak memory", bars(peak, "Peak memory of the process", f.caption)});
  return f;
}

}  // namespace

std::vector<Figure> make_figures(const Study& study) {
  std::vector<Figure> figures;
  const auto add = [&](std::optional<Figure> f) {
    if (f) figures.push_back(std::move(*f));
  };
  add(loss_figure(study, false));
  add(loss_figure(study, true));
  add(difference_figure(study));
  if (study.claims()) {
    const auto keys = tuned_keys(study);
    for (size_t i = 0; i < keys.size(); ++i) figures.push_back(tuning_figure(study, keys[i], i));
  }
  add(spectra_figure(study, "weight"));
  add(spectra_figure(study, "momentum"));
  add(spectra_figure(study, "update"));
  add(alpha_figure(study));
  add(time_figure(study));
  add(memory_figure(study));
  return figures;
}

}  // namespace schatten
