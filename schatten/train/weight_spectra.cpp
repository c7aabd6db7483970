#include <ATen/ATen.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/text.h>
#include <schatten/engine/tasks.h>
#include <schatten/train/terminal.h>
#include <schatten/train/weight_spectra.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <utility>

namespace schatten {

namespace {

/// [out, in, ...] as [out, in * ...]; what has no two sides longer than 1 is none.
bool is_matrix(const StoredTensor& t) {
  const int64_t rows = t.shape.empty() ? 0 : t.shape[0], entries = c10::multiply_integers(t.shape);
  return at::isFloatingType(t.dtype) && c10::elementSize(t.dtype) > 1 && rows > 1 && entries > rows;
}

std::string cell(double value, const char* format = "%.4g") {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return std::isfinite(value) ? text : "-";
}

/// Safe to print, something left out near its beginning where there is no room: names of weights differ at their ends.
std::string shown(const std::string& name, size_t room) {
  std::string text;
  append_quoted(text, name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name);
  text = text.substr(1, text.size() - 2);
  if (display_width(text) <= room) return text;
  const size_t head = (room - 2) / 3, tail = room - 2 - head;
  return valid_utf8(text.substr(0, head)) + ".." + valid_utf8(text.substr(text.size() - tail));
}

std::string row_text(const Columns& c, int width) {
  const std::string alpha = cell(c.alpha, "%.2f") + (std::isfinite(c.D) ? cell(c.D, " (%.3f)") : "");
  std::string text = width >= 80 ? pad(cell(c.sigma_max), 11, true) : "";
  text += pad(cell(c.stable_rank), 13, true);
  if (width >= 100) text += pad(cell(c.effective_rank), 11, true);
  text += pad(alpha, 15, true);
  if (width >= 80) text += pad(std::to_string(c.num_spikes), 8, true);
  return std::isfinite(c.alpha_shuffled) ? text + pad(cell(c.alpha_shuffled, "%.2f"), 10, true) : text;
}

void print_summary(std::vector<double> alphas, int64_t few, int64_t skipped) {
  std::sort(alphas.begin(), alphas.end());
  const auto below = [&](double limit) {
    return std::lower_bound(alphas.begin(), alphas.end(), limit) - alphas.begin();
  };
  std::string text;
  if (!alphas.empty())
    text = "Median alpha " + cell((alphas[(alphas.size() - 1) / 2] + alphas[alphas.size() / 2]) / 2, "%.2f") + ". Of " +
           std::to_string(alphas.size()) + " fits " + std::to_string(below(2)) +
           " have alpha < 2 (over-trained by the HT-SR reading), " +
           std::to_string(static_cast<int64_t>(alphas.size()) - below(6)) + " above 6 (under-trained). ";
  text += "Without a fit: " + std::to_string(few) + ". No matrices: " + std::to_string(skipped) + ".";
  std::cout << wrapped(text, 0, static_cast<size_t>(terminal_width(stdout))) << "\n";
}

}  // namespace

/// A task reads its own tensor, so no more of them are in memory than there are threads.
std::vector<WeightSpectrum> weight_spectra(const std::string& path, const ColumnsOptions& options) {
  std::vector<WeightSpectrum> weights;
  for (StoredTensor& t : list_weights(path)) weights.push_back({.stored = t, .matrix = is_matrix(t)});
  LiveLine live(stderr);
  std::mutex one_at_a_time;
  size_t done = 0;
  std::vector<Task> tasks;
  for (WeightSpectrum& w : weights) {
    if (!w.matrix) continue;
    const auto work = [&, &w = w] {
      const Tensor t = load_safetensors_tensor(w.stored.file, w.stored.name);
      w.columns = row_of(t.reshape({t.size(0), -1}), options).columns;
      const std::scoped_lock lock(one_at_a_time);
      live.draw("spectra  " + std::to_string(++done) + " of " + std::to_string(tasks.size()) + "  " + w.stored.name);
    };
    tasks.push_back({.cost = static_cast<double>(c10::multiply_integers(w.stored.shape)), .run = work});
  }
  run_tasks(tasks);
  live.clear();
  return weights;
}

Value to_value(const WeightSpectrum& w) {
  Value line = Value::Table{{"name", w.stored.name}, {"dtype", dtype_name(w.stored.dtype)}};
  line["shape"] = field_value(w.stored.shape);
  if (!w.matrix) line["skipped"] = "no matrix of a floating dtype";
  if (w.matrix) merge(line, write_fields(w.columns));
  return line;
}

void print_weight_spectra(const std::vector<WeightSpectrum>& weights, const std::vector<WeightSpectrum>& others) {
  const int width = terminal_width(stdout);
  const bool shuffled = std::any_of(weights.begin(), weights.end(),
                                    [](const WeightSpectrum& w) { return std::isfinite(w.columns.alpha_shuffled); });
  const std::string head = std::string(width >= 80 ? "  sigma_max" : "") + "  stable rank" +
                           (width >= 100 ? "  eff. rank" : "") + "      alpha (D)" + (width >= 80 ? "  spikes" : "") +
                           (shuffled ? "  shuffled" : "");
  const size_t room = static_cast<size_t>(width) - head.size();
  size_t longest = 4;
  for (const WeightSpectrum& w : weights)
    if (w.matrix) longest = std::max(longest, display_width(shown(w.stored.name, room)));
  std::cout << pad("name", longest) << head << "\n";
  std::vector<double> alphas;
  int64_t few = 0, skipped = 0;
  for (const WeightSpectrum& w : weights) {
    if (!w.matrix && ++skipped) continue;
    std::cout << pad(shown(w.stored.name, room), longest) << row_text(w.columns, width) << "\n";
    for (const WeightSpectrum& o : others)
      if (o.matrix && o.stored.name == w.stored.name)
        std::cout << pad("", longest) << row_text(o.columns, width) << "\n";
    if (std::isfinite(w.columns.alpha)) alphas.push_back(w.columns.alpha);
    else ++few;
  }
  print_summary(std::move(alphas), few, skipped);
}

}  // namespace schatten
