// schatten::Optimizer: routes parameters to recipes, owns their state, and steps them in parallel.
#pragma once
#include <schatten/core/safetensors.h>
#include <schatten/engine/options.h>
#include <schatten/recipe/recipe.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

/// One row of the routing table.
struct Assignment {
  ParameterInfo parameter;
  std::string match, recipe;
  double lr;
  Locality locality;
  int64_t state_bytes;
};

/// Bytes of optimizer state that `Optimizer` would allocate, from declarations alone.
int64_t plan_state_bytes(const std::vector<ParameterInfo>& parameters, const std::vector<Route>& routes,
                         at::ScalarType parameter_dtype, const OptimizerOptions& options = {});

/// infer_parameter of a tensor's shape (core/parameter_info.h).
inline ParameterInfo infer_parameter(std::string name, const Tensor& tensor, int64_t index) {
  return infer_parameter(std::move(name), tensor.sizes().vec(), index);
}

/// A value class over W <- decay(W) - lr * direction(G). Parameters without a gradient are skipped.
///
///   schatten::Optimizer optimizer(model, {{"hidden_matrix", muon({}), 0.02}, {"any", adamw({}), 3e-3}});
///   loss.backward();
///   optimizer.step();
///   optimizer.zero_grad();
class Optimizer {
 public:
  Optimizer(std::vector<Parameter> parameters, std::vector<Route> routes, OptimizerOptions options = {});

  /// Any torch::nn::Module (or whatever lists named_parameters()).
  template <class Module>
    requires requires(const Module& m) { m.named_parameters().begin()->key(); }
  Optimizer(const Module& module, std::vector<Route> routes, OptimizerOptions options = {})
      : Optimizer(inferred(module), std::move(routes), options) {}

  Optimizer(Optimizer&&) noexcept;
  Optimizer& operator=(Optimizer&&) noexcept;
  ~Optimizer();

  /// One update of every parameter that has a gradient; `lr_factor` multiplies every route's rate.
  void step(double lr_factor = 1.0, const Watch& watch = {});
  void zero_grad();  // gradients become undefined

  /// What the recipes' controllers go by ("largest_logits": see LanguageModel::watch_logits), and the way to tell them:
  /// once per block between two steps.
  std::vector<std::string> wants() const;
  void observe(const std::string& what, int block, const Tensor& values);
  /// Everything that the recipes' stages say of themselves together: whether and when a probe is wanted.
  Traits traits() const;
  /// Hands the present gradients to the stages that want a probe (Sophia's Hessian estimate); steps nothing.
  void probe();
  /// Replaces the recipe's lambda for one parameter, as controllers do; nullopt gives it back.
  void set_weight_decay(const std::string& parameter, std::optional<double> weight_decay);

  std::vector<Assignment> assignments() const;
  /// The table as printed once at the start of a run.
  std::string routing_table() const;
  /// One line per route: which kernel steps it, by which instructions, or that it goes stage by stage.
  std::vector<std::string> kernels() const;
  Isa isa() const;
  int64_t state_bytes() const;
  /// One line per route whose stages could not go the usual way: which, and how often (Stage::noticed).
  std::vector<std::string> noticed() const;

  /// `<parameter>/<stage>/<slot>`, `<parameter>/step` and, where a controller set it, `<parameter>/weight_decay`; the
  /// recipes stand in the metadata.
  TensorFile state() const;
  /// Errors name what is missing, unexpected or misshaped, and change nothing then.
  void load_state(const TensorFile& file);
  /// The matrix view of a state slot whose path ends in `slot` ("momentum_buffer"), undefined when there is none.
  Tensor slot(const std::string& parameter, std::string_view slot) const;

 private:
  template <class Module>
  static std::vector<Parameter> inferred(const Module& module) {
    std::vector<Parameter> parameters;
    for (const auto& item : module.named_parameters())
      parameters.push_back(
          {infer_parameter(item.key(), item.value(), static_cast<int64_t>(parameters.size())), item.value()});
    count_blocks(parameters);
    return parameters;
  }
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace schatten
