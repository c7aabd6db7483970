// What the models share while they are built and fed.
#pragma once
#include <schatten/models/language_model.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// Throws a UsageError that names the number that cannot be.
void check_architecture(const Architecture& architecture);

/// Collects what a model says about its parameters; indices follow the order of the calls.
class ParameterList {
 public:
  ParameterInfo& add(std::string name, Role role, std::vector<int64_t> shape, int block = -1);
  /// Knows by then how many blocks there are.
  std::vector<ParameterInfo> take();

 private:
  std::vector<ParameterInfo> infos_;
};

/// Leaves with requires_grad: gains are 1, biases 0, all else N(0, deviation(info)), brought to unit norm along unit_axis
/// where there is one.
std::vector<Parameter> make_leaves(std::vector<ParameterInfo> infos, at::ScalarType dtype, const Rng& rng,
                                   const std::function<double(const ParameterInfo&)>& deviation);

const Tensor& leaf(const std::vector<Parameter>& parameters, std::string_view name);

/// [B, T] integers within the context and the vocabulary; `what` is "tokens" or "targets".
void check_tokens(const Tensor& tokens, const Architecture& architecture, std::string_view what);

}  // namespace schatten
