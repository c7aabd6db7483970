// Fused twins: one pass over memory for what an element-wise recipe's stages, decay and step do one after another.
// A second implementation of the chain (by kernels/elementwise.h), never a second definition: state, names and shapes
// are those that the stages declare.
#pragma once
#include <schatten/engine/tasks.h>
#include <schatten/kernels/elementwise.h>
#include <schatten/recipe/recipe.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

/// One parameter's step.
struct FusedStep {
  int64_t step = 1;  // this parameter's own updates, from 1
  double lr = 0;
  Decay decay{};  // with a controller's lambda, where there is one
  const ParameterInfo* parameter = nullptr;
  State* state = nullptr;
  Tensor param, grad;  // contiguous, float32 or bfloat16, on the CPU
  Tensor update{};     // float32, as many entries: U is written here, too; undefined: nobody watches
};

/// The twin of a chain. The same bits for every instruction set, however the parameter is cut, and whether or not
/// somebody watches; the chain's results to a few units in the last place: at::sqrt is not correctly rounded, and
/// at::lerp and at::add round the last entries of a tensor in another way than the others.
/// State    the stages'.
/// Checked  engine/fused_test, kernels/elementwise_test.
struct FusedTwin {
  std::string kernel;                                                                    // "adam", "lion", ...
  std::function<void(const FusedStep& step, Isa isa, int64_t from, int64_t count)> run;  // entries [from, from + count)
};

/// The twin of a recipe, recognised by its printed form:
///   scale_by_adam, every form, with and without a first moment      (adam, adamw, alpha_decay, rmsprop)
///   scale_by_adam without a first moment, then heavy_ball           (rmsprop with momentum)
///   scale_by_adagrad
///   lion_momentum, then sign
///   ema or heavy_ball, then sign or nothing                         (sgd, sign_muon)
///   identity                                                        (sgd without momentum)
/// each with any Decay and without a retraction. nullopt for all others.
std::optional<FusedTwin> fused_twin(const Recipe& recipe);

/// Whether a twin can step this parameter: float32 or bfloat16 on the CPU, its state float32.
bool fits_fused(const Tensor& param, at::ScalarType state_dtype);

/// A twin and what it is to do.
struct FusedJob {
  const FusedTwin* twin = nullptr;
  FusedStep step;
};
/// Tasks of about `piece` entries: small parameters together, large ones in pieces, whatever the number of threads.
void add_fused_tasks(std::vector<Task>& tasks, std::vector<FusedJob> jobs, Isa isa, int64_t piece = kElementwisePiece);

}  // namespace schatten
