// Spectra while training: looks at weight, momentum and update of the matrices that a pattern names.
#pragma once
#include <schatten/core/value.h>
#include <schatten/engine/optimizer.h>

#include <map>
#include <string>
#include <vector>

namespace schatten {

/// Fed with the updates of one step through `watch`; `records` then makes one record per matrix.
class SpectraRecorder {
 public:
  SpectraRecorder(const Optimizer& optimizer, const std::vector<Parameter>& parameters, const std::string& pattern,
                  uint64_t seed);
  void watch(const UpdateView& view);
  /// Computed as parallel tasks, one matrix each; the updates seen are forgotten afterwards.
  std::vector<Value> records(int64_t step);

 private:
  Value record(const Parameter& parameter, int64_t step) const;
  const Optimizer& optimizer_;
  std::vector<Parameter> matrices_;
  uint64_t seed_;
  std::map<std::string, std::pair<Tensor, double>> updates_;  // update and lr, by parameter name
};

}  // namespace schatten
