#include <ATen/ATen.h>
#include <schatten/diagnostics/record.h>
#include <schatten/engine/tasks.h>
#include <schatten/train/spectra_recorder.h>

#include <algorithm>
#include <tuple>

namespace schatten {

SpectraRecorder::SpectraRecorder(const Optimizer& optimizer, const std::vector<Parameter>& parameters,
                                 const std::string& pattern, uint64_t seed)
    : optimizer_(optimizer), seed_(seed) {
  for (const Parameter& p : parameters)
    if (p.info.role == Role::hidden_matrix && matches_glob(pattern, p.info.name)) matrices_.push_back(p);
  if (matrices_.empty())
    fail_usage(
        {"spectra.match", "a pattern that names at least one hidden matrix", "'" + pattern + "'", "'*' names all."});
}

void SpectraRecorder::watch(const UpdateView& view) {
  const bool wanted = std::any_of(matrices_.begin(), matrices_.end(),
                                  [&](const Parameter& p) { return p.info.name == view.parameter.name; });
  if (wanted) updates_[view.parameter.name] = {view.update.clone(), view.lr};
}

std::vector<Value> SpectraRecorder::records(int64_t step) {
  std::vector<Value> rows(matrices_.size());
  std::vector<Task> tasks;
  for (size_t i = 0; i < matrices_.size(); ++i)
    tasks.push_back({static_cast<double>(matrices_[i].info.numel()), [&, i] { rows[i] = record(matrices_[i], step); }});
  run_tasks(std::move(tasks));
  updates_.clear();
  return rows;
}

Value SpectraRecorder::record(const Parameter& p, int64_t step) const {
  Seen seen{.weight = p.tensor.detach().reshape({p.info.rows(), p.info.cols()}),
            .momentum = optimizer_.slot(p.info.name, "momentum_buffer")};
  if (const auto it = updates_.find(p.info.name); it != updates_.end()) std::tie(seen.update, seen.lr) = it->second;
  return spectra_record(p.info, step, seen, seed_);
}

}  // namespace schatten
