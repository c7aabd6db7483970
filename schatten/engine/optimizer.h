// schatten::Optimizer: routes parameters to recipes, owns their state, and steps them in parallel.
#pragma once
#include <schatten/core/parameter_info.h>
#include <schatten/core/safetensors.h>
#include <schatten/recipe/recipe.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

struct OptimizerOptions {
  /// Dtype of state and of the update's arithmetic. None: float64 for float64 parameters, else float32.
  std::optional<at::ScalarType> state_dtype{};
  uint64_t seed = 0;  // of stages that draw
  /// Recipes are stepped by their fused twins (engine/fused.h, fused_matrix.h) where there is one; false: stage by stage.
  bool fused = true;
  /// Parameters of a kind are stepped as one batch [b, m, n]. None: on every device but the CPU. Recipes whose stages
  /// cannot (Traits::batches, draws) go parameter by parameter. Needs room for a copy of a batch's gradients and state.
  std::optional<bool> batched{};
  /// Instructions that the kernels use.
  Isa isa = this_isa();
};

/// One row of the routing table.
struct Assignment {
  ParameterInfo parameter;
  std::string match, recipe;
  double lr;
  Locality locality;
  int64_t state_bytes;
};

/// What a step did to one parameter, for those who watch.
struct UpdateView {
  const ParameterInfo& parameter;
  const Tensor& update;  // matrix view, before lr
  double lr;
};

/// Bytes of optimizer state that `Optimizer` would allocate, from declarations alone.
int64_t plan_state_bytes(const std::vector<ParameterInfo>& parameters, const std::vector<Route>& routes,
                         at::ScalarType parameter_dtype, const OptimizerOptions& options = {});

/// Roles for parameters of modules that do not state them, worked out from names and shapes:
/// 1-D: bias or gain; names with "embed", "wte", "wpe": embedding; "lm_head", "head", "output" at the end: head;
/// 4-D: conv; else hidden_matrix.
ParameterInfo infer_parameter(std::string name, const Tensor& tensor, int64_t index);

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
  /// With `watch`, it is called once per watched parameter (from worker threads, one call at a time).
  void step(double lr_factor = 1.0, const std::function<void(const UpdateView&)>& watch = {});
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
  void check_observations() const;
  void run_controllers();
  template <class Module>
  static std::vector<Parameter> inferred(const Module& module) {
    std::vector<Parameter> parameters;
    for (const auto& item : module.named_parameters())
      parameters.push_back(
          {infer_parameter(item.key(), item.value(), static_cast<int64_t>(parameters.size())), item.value()});
    return parameters;
  }
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace schatten
