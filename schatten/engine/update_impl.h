// How parameters are stepped by their recipe's stages: one, or several of a kind as one batch; not public.
#pragma once
#include <schatten/engine/stepper.h>

#include <vector>

namespace schatten {

/// What all parameters of a route have in common in one step.
struct Turn {
  const Recipe& recipe;
  const OptimizerOptions& options;
  double lr = 0;
  const Watch& watch;
};

/// [rows, cols], whatever the parameter's own shape.
Tensor as_matrix(const Tensor& t, const ParameterInfo& p);
/// A controller's lambda takes the place of the recipe's.
Decay decay_of(const Recipe& recipe, const Slot& slot);
Step stage_step(const Turn& turn, const Slot& slot, Tensor grad, Tensor param);

/// The few lines that every recipe is: decay, direction, step, retraction.
void update_matrix(const Turn& turn, const Slot& slot, State& state, Tensor param, const Tensor& raw_grad,
                   at::ScalarType dtype);

/// Parameters that stages cannot tell apart.
using Batch = std::vector<Slot*>;
constexpr int64_t kBatchEntries = int64_t{1} << 26;
/// Groups of at most `entries` entries (or of one parameter), in the order of their first members. Two are of a kind
/// when route, dtype, device, steps so far and all that ParameterInfo says but name and position are equal.
std::vector<Batch> batches_of(const std::vector<Slot*>& slots, int64_t entries = kBatchEntries);

/// update_matrix for all of them: gradients and state are stacked to [b, m, n], the direction is found once, and decay,
/// step and retraction go parameter by parameter. State is written back in place. Nothing in here waits for a device.
void update_batch(const Turn& turn, const Batch& batch, at::ScalarType dtype);

}  // namespace schatten
