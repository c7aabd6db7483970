#include <ATen/ATen.h>
#include <schatten/core/rng.h>
#include <schatten/diagnostics/record.h>

namespace schatten {

Value spectra_record(const ParameterInfo& info, int64_t step, const Seen& seen, uint64_t seed) {
  const SpectralSummary weight = summarize_spectrum(seen.weight);
  Value row = Value::Table{{"step", step}, {"name", info.name}, {"block", info.block}};
  row["shape"] = Value::Array{seen.weight.size(0), seen.weight.size(1)};
  row["weight"] = to_value(weight);
  if (seen.momentum.defined()) row["momentum"] = to_value(summarize_spectrum(seen.momentum));
  if (seen.update.defined()) {
    const SpectralSummary update = summarize_spectrum(seen.update);
    row["update"] = to_value(update);
    row["update_ratio"] = seen.lr * update.frobenius_norm / weight.frobenius_norm;
  }
  row["alpha"] = to_value(fit_power_law_hill(weight.singular_values));
  row["alpha_shuffled"] = to_value(fit_power_law_shuffled(seen.weight, mix(seed, static_cast<uint64_t>(info.index))));
  return row;
}

}  // namespace schatten
