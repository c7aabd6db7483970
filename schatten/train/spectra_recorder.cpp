#include <ATen/ATen.h>
#include <schatten/diagnostics/spectra.h>
#include <schatten/engine/tasks.h>
#include <schatten/train/spectra_recorder.h>

#include <algorithm>

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
  const Tensor weight = p.tensor.detach().reshape({p.info.rows(), p.info.cols()});
  const SpectralSummary of_weight = summarize_spectrum(weight);
  Value row = Value::Table{{"step", step}, {"name", p.info.name}, {"block", p.info.block}};
  row["shape"] = Value::Array{p.info.rows(), p.info.cols()};
  row["weight"] = to_value(of_weight);
  const Tensor momentum = optimizer_.slot(p.info.name, "momentum_buffer");
  if (momentum.defined()) row["momentum"] = to_value(summarize_spectrum(momentum));
  if (const auto it = updates_.find(p.info.name); it != updates_.end()) {
    const SpectralSummary of_update = summarize_spectrum(it->second.first);
    row["update"] = to_value(of_update);
    row["update_ratio"] = it->second.second * of_update.frobenius_norm / of_weight.frobenius_norm;
  }
  row["alpha"] = to_value(fit_power_law_hill(of_weight.singular_values));
  row["alpha_shuffled"] = to_value(fit_power_law_shuffled(weight, mix(seed_, static_cast<uint64_t>(p.info.index))));
  return row;
}

}  // namespace schatten
