#include <schatten/campaign/statistics.h>
#include <schatten/report/figures_impl.h>
#include <schatten/report/svg.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace schatten {

namespace {

/// "layers.3.mlp.up.weight" -> "mlp.up"
std::string kind_of(const std::string& name, int64_t block) {
  std::string kind = name;
  const std::string number = "." + std::to_string(block) + ".";
  if (const size_t at = kind.find(number); at != std::string::npos) kind = kind.substr(at + number.size());
  if (kind.ends_with(".weight")) kind.resize(kind.size() - 7);
  return kind;
}

const Run* run_with_spectra(const StudyGroup& g) {
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
  std::vector<int64_t> all(steps.begin(), steps.end());
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

}  // namespace

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
  for (const StudyGroup& g : study.groups) colours += (colours.empty() ? "" : ", ") + g.name;
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

}  // namespace schatten
