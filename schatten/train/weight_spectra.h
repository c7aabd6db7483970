// What `schatten spectra` shows: every matrix of a model on disk, as a table or as lines of JSON.
#pragma once
#include <schatten/core/weight_files.h>
#include <schatten/diagnostics/columns.h>

#include <string>
#include <vector>

namespace schatten {

struct WeightSpectrum {
  StoredTensor stored;
  bool matrix = false;  // of a floating dtype, with two sides longer than 1; without it there are no numbers
  Columns columns{};
};

/// Of all that list_weights(path) has; progress on stderr where that is a terminal.
std::vector<WeightSpectrum> weight_spectra(const std::string& path, const ColumnsOptions& options);

/// One line: name, dtype, shape, then the columns, or why there are none.
Value to_value(const WeightSpectrum& weight);
/// Below each row that of the same name in `others`; then what all of them say.
void print_weight_spectra(const std::vector<WeightSpectrum>& weights, const std::vector<WeightSpectrum>& others);

}  // namespace schatten
