#include <schatten/parameters/alpha_decay.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace schatten {

namespace {

using Numbers = std::vector<double>;

void check(double weight_decay, const AlphaDecayOptions& o) {
  if (!std::isfinite(weight_decay) || weight_decay < 0)
    fail_usage({"alpha_decay", "weight_decay finite and >= 0", to_json(Value(weight_decay)), ""});
  if (!(o.low >= 0 && o.high >= o.low && std::isfinite(o.high)))
    fail_usage({"alpha_decay", "0 <= low <= high, both finite",
                "low " + to_json(Value(o.low)) + ", high " + to_json(Value(o.high)), "Published: 0.667 and 3."});
}

Numbers linear(const Numbers& alphas, double low, double high, double base) {
  const auto [least, most] = std::minmax_element(alphas.begin(), alphas.end());
  Numbers out;
  for (const double a : alphas)
    out.push_back(*most > *least ? low + (high - low) * ((a - *least) / (*most - *least)) : base);
  return out;
}

/// Shares of n lambda. The 1e-8 is upstream's, once per module.
Numbers proportional(const Numbers& scores, double weight_decay) {
  double sum = 0;
  for (const double s : scores) sum += s + 1e-8;
  Numbers out;
  for (const double s : scores) out.push_back(weight_decay * s / sum * static_cast<double>(scores.size()));
  return out;
}

Numbers scores(const Numbers& alphas, double (*score)(double)) {
  for (const double a : alphas)
    if (!(a > 1))
      fail_usage({"alpha_decay", "alphas above 1 for the maps sqrt and log2", to_json(Value(a)),
                  "An exponent of a power-law fit is; the map 'linear' takes any number."});
  Numbers out(alphas.size());
  std::transform(alphas.begin(), alphas.end(), out.begin(), score);
  return out;
}

struct Moments {
  double mean = 0, deviation = 0;  // of the population
};
Moments moments(const Numbers& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / n)};
}

Numbers layer_sigmoid(const Numbers& alphas, const std::vector<int64_t>& layers, double weight_decay) {
  if (layers.size() != alphas.size())
    fail_usage({"alpha_decay", "one layer per alpha (" + std::to_string(alphas.size()) + ")",
                std::to_string(layers.size()), "The map 'layer_sigmoid' compares within layers."});
  std::map<int64_t, Numbers> members;
  for (size_t i = 0; i < alphas.size(); ++i) members[layers[i]].push_back(alphas[i]);
  std::map<int64_t, Moments> of;
  for (const auto& [layer, values] : members) of[layer] = moments(values);
  Numbers out;
  for (size_t i = 0; i < alphas.size(); ++i) {
    const Moments& m = of[layers[i]];
    out.push_back(weight_decay * 2 / (1 + std::exp(-4 * (alphas[i] - m.mean) / (m.deviation + 1e-8))));
  }
  return out;
}

bool is_tuned(const std::vector<AlphaModule>& modules, size_t i, const AlphaDecayOptions& o) {
  if ((o.skip_first && i == 0) || (o.skip_last && i + 1 == modules.size())) return false;
  return modules[i].eigenvalues >= o.minimum_eigenvalues && std::isfinite(modules[i].alpha);
}

}  // namespace

std::vector<double> decays_of_alphas(const std::vector<double>& alphas, const std::vector<int64_t>& layers,
                                     double weight_decay, const AlphaDecayOptions& options) {
  check(weight_decay, options);
  switch (options.map) {
    case AlphaMap::linear: return linear(alphas, options.low * weight_decay, options.high * weight_decay, weight_decay);
    case AlphaMap::sqrt: return proportional(scores(alphas, std::sqrt), weight_decay);
    case AlphaMap::log2: return proportional(scores(alphas, std::log2), weight_decay);
    case AlphaMap::layer_sigmoid: break;
  }
  return layer_sigmoid(alphas, layers, weight_decay);
}

std::vector<ModuleDecay> assign_decays(const std::vector<AlphaModule>& modules, double weight_decay,
                                       const AlphaDecayOptions& options) {
  std::vector<ModuleDecay> out(modules.size(), {weight_decay, false});
  std::vector<double> alphas;
  std::vector<int64_t> layers;
  std::vector<size_t> tuned;
  for (size_t i = 0; i < modules.size(); ++i) {
    if (!is_tuned(modules, i, options)) continue;
    tuned.push_back(i);
    alphas.push_back(modules[i].alpha);
    layers.push_back(modules[i].layer);
  }
  const auto decays = decays_of_alphas(alphas, layers, weight_decay, options);
  for (size_t k = 0; k < tuned.size(); ++k) out[tuned[k]] = {decays[k], true};
  return out;
}

}  // namespace schatten
