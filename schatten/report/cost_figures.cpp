#include <schatten/campaign/statistics.h>
#include <schatten/report/figures_impl.h>
#include <schatten/report/svg.h>

#include <optional>

namespace schatten {

namespace {

template <class Get>
double median_over(const StudyGroup& g, Get get) {
  std::vector<double> all;
  for (const Run& r : g.runs)
    if (const double v = get(r); std::isfinite(v)) all.push_back(v);
  return median(all);
}

}  // namespace

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
    const StudyGroup& group = study.groups[g];
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

}  // namespace schatten
