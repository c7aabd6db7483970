#include <ATen/ATen.h>
#include <schatten/engine/update_impl.h>

#include <algorithm>
#include <tuple>

namespace schatten {

Tensor as_matrix(const Tensor& t, const ParameterInfo& p) { return t.reshape({p.rows(), p.cols()}); }

Decay decay_of(const Recipe& recipe, const Slot& slot) {
  Decay decay = recipe.decay;
  if (slot.weight_decay) decay.weight_decay = *slot.weight_decay;
  return decay;
}

Step stage_step(const Turn& turn, const Slot& slot, Tensor grad, Tensor param) {
  const ParameterInfo& info = slot.parameter.info;
  return {.step = slot.steps,
          .lr = turn.lr,
          .parameter = info,
          .grad = std::move(grad),
          .param = std::move(param),
          .rng = Rng(turn.options.seed).at(info.index),
          .shared = Rng(turn.options.seed),
          .isa = turn.options.isa};
}

namespace {

/// What is left when the direction is known.
void take_step(const Turn& turn, const Slot& slot, Tensor param, const Tensor& update, double eta) {
  const ParameterInfo& info = slot.parameter.info;
  const Decay decay = decay_of(turn.recipe, slot);
  const Retraction& retract = turn.recipe.retract;
  decay.before(param, update, eta, info);
  retract.move(param, update, eta, info);
  decay.after(param, eta);
  retract.renormalize(param, info, slot.steps);
  if (turn.watch) turn.watch({info, update, eta});
}

}  // namespace

void update_matrix(const Turn& turn, const Slot& slot, State& state, Tensor param, const Tensor& raw_grad,
                   at::ScalarType dtype) {
  const Tensor grad = decay_of(turn.recipe, slot).gradient(raw_grad.to(dtype), param);
  double rate = 1;
  Step step = stage_step(turn, slot, grad, param);
  step.rate = &rate;
  const Tensor update = turn.recipe.direction.apply(grad, state, step);
  if (update.defined()) take_step(turn, slot, std::move(param), update, turn.lr * rate);
}

namespace {

/// All that stages may go by. Taken apart by name: a field that is added later cannot be left out unseen.
auto kind(const ParameterInfo& p) {
  const auto& [name, index, role, shape, block, blocks, projection, heads, kv_heads, nope, rope, parts, unit_axis] = p;
  return std::tie(role, shape, blocks, projection, heads, kv_heads, nope, rope, parts, unit_axis);
}

bool alike(const Slot& a, const Slot& b) {
  const Tensor &x = a.parameter.tensor, &y = b.parameter.tensor;
  return a.route == b.route && a.steps == b.steps && x.scalar_type() == y.scalar_type() && x.device() == y.device() &&
         kind(a.parameter.info) == kind(b.parameter.info);
}

/// The slots of every member's state, slot by slot.
class States {
 public:
  explicit States(const Batch& batch) : first_(batch.front()->state) {
    for (Slot* member : batch) {
      size_t i = 0;
      member->state.each([&](const std::string&, const Tensor& t) {
        if (i == all_.size()) all_.emplace_back();
        all_[i++].push_back(t);
      });
    }
  }
  State stacked() const {
    size_t i = 0;
    return first_.viewed([&](const Tensor&) { return at::stack(all_[i++]); });
  }
  void take_back(State& joint) {
    size_t i = 0;
    joint.each([&](const std::string&, const Tensor& t) { at::_foreach_copy_(all_[i++], t.unbind(0)); });
  }

 private:
  const State& first_;
  std::vector<std::vector<Tensor>> all_;
};

}  // namespace

std::vector<Batch> batches_of(const std::vector<Slot*>& slots, int64_t entries) {
  std::vector<Batch> batches;
  for (Slot* slot : slots) {
    const int64_t own = slot->parameter.info.numel();
    const auto room = std::find_if(batches.begin(), batches.end(), [&](const Batch& b) {
      return alike(*b.front(), *slot) && static_cast<int64_t>(b.size() + 1) * own <= entries;
    });
    if (room == batches.end()) batches.push_back({slot});
    else room->push_back(slot);
  }
  return batches;
}

void update_batch(const Turn& turn, const Batch& batch, at::ScalarType dtype) {
  std::vector<Tensor> params, grads;
  for (const Slot* slot : batch) {
    const auto& [info, tensor] = slot->parameter;
    params.push_back(as_matrix(tensor.detach(), info));
    grads.push_back(decay_of(turn.recipe, *slot).gradient(as_matrix(slot->grad, info).to(dtype), params.back()));
  }
  const Tensor grad = at::stack(grads);
  double rate = 1;
  Step step = stage_step(turn, *batch.front(), grad, {});
  if (turn.recipe.direction.traits().reads_param) step.param = at::stack(params);
  step.rate = &rate;
  States states(batch);
  State joint = states.stacked();
  const Tensor update = turn.recipe.direction.apply(grad, joint, step);
  states.take_back(joint);
  if (!update.defined()) return;
  for (size_t i = 0; i < batch.size(); ++i)
    take_step(turn, *batch[i], params[i], update[static_cast<int64_t>(i)], turn.lr * rate);
}

}  // namespace schatten
