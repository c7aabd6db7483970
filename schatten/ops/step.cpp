#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/ops/errors_impl.h>
#include <schatten/ops/request.h>
#include <schatten/ops/step.h>
#include <schatten/parameters/sharpness.h>

#include <cmath>

namespace schatten::ops {

namespace {

/// Neither autograd nor the caller's autocast has a say in a step.
struct PlainArithmetic {
  at::NoGradGuard no_grad{};
  c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
};

std::vector<double> numbers(const Tensor& hyper) {
  TORCH_CHECK_VALUE(hyper.is_cpu() && hyper.scalar_type() == at::kDouble && hyper.dim() == 1,
                    "schatten: expected `hyper` to be a float64 vector on the CPU, got ", hyper.toString(),
                    hyper.sizes());
  const Tensor flat = hyper.contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// 0-dim tensors hold steps and decays; Python's are float32 and float64 on the CPU.
double number(const Tensor& t) {
  if (t.is_cpu() && t.scalar_type() == at::kFloat) return *t.const_data_ptr<float>();
  return t.item<double>();
}
void set_number(const Tensor& t, double value) {
  if (t.is_cpu() && t.scalar_type() == at::kFloat) *t.mutable_data_ptr<float>() = static_cast<float>(value);
  else t.fill_(value);
}

/// The arguments as slots, and their results written back. What the stages put in place of a tensor (a basis drawn anew,
/// moments of another shape) is copied into the caller's.
class Borrowed {
 public:
  Borrowed(const Plan& plan, at::TensorList params, at::TensorList grads, at::TensorList state)
      : params_(params), state_(state), slots(plan.slots) {
    TORCH_CHECK_VALUE(params.size() == slots.size() && grads.size() == slots.size(), "schatten: expected ",
                      slots.size(), " parameters and gradients, got ", params.size(), " and ", grads.size());
    size_t at = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      Slot& s = slots[i];
      s.parameter.tensor = params[i].contiguous();
      s.grad = grads[i].layout() == at::kStrided ? grads[i].contiguous() : grads[i];  // no result depends on strides
      check_parameter(s.parameter);
      if (s.grad.sizes() != params[i].sizes())
        fail_usage({"schatten::step", "a gradient of '" + s.parameter.info.name + "' as " + c10::str(params[i].sizes()),
                    c10::str(s.grad.sizes()), ""});
      s.state.tensors([&](Tensor& t, const SlotSpec& spec) { t = slot_tensor(s, spec, t, next(at)); });
      s.steps = static_cast<int64_t>(number(next(at)));
      if (controlled(plan, s))
        if (const double decay = number(next(at)); !std::isnan(decay)) s.weight_decay = decay;
    }
    TORCH_CHECK_VALUE(at == state.size(), "schatten: expected ", at, " tensors of state, got ", state.size());
  }

  void give_back(const Plan& plan) {
    size_t at = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      Slot& s = slots[i];
      if (!s.parameter.tensor.is_same(params_[i])) params_[i].detach().copy_(s.parameter.tensor);
      s.state.tensors([&](const Tensor& t, const SlotSpec&) { put(t, state_[at++]); });
      set_number(state_[at++], static_cast<double>(s.steps));
      if (controlled(plan, s)) set_number(state_[at++], s.weight_decay.value_or(std::nan("")));
    }
    for (const Tensor& t : state_) t.unsafeGetTensorImpl()->bump_version();
  }

  static bool controlled(const Plan& plan, const Slot& s) { return !plan.stepper.recipe(s).controllers.empty(); }

 private:
  const Tensor& next(size_t& at) const {
    TORCH_CHECK_VALUE(at < state_.size(), "schatten: expected more than ", state_.size(), " tensors of state");
    return state_[at++];
  }
  /// As the matrix that stages see.
  static Tensor slot_tensor(const Slot& s, const SlotSpec& spec, const Tensor& declared, const Tensor& given) {
    if (given.is_contiguous() && given.sizes() == declared.sizes()) return given;
    const bool fits = spec.resizes ? given.dim() == declared.dim() : given.numel() == declared.numel();
    if (!fits)
      fail_usage({"schatten::step",
                  "state '" + spec.name + "' of '" + s.parameter.info.name + "' as " + c10::str(declared.sizes()),
                  c10::str(given.sizes()), "It belongs to another recipe or parameter."});
    return spec.resizes ? given : given.contiguous().view(declared.sizes());
  }
  static void put(const Tensor& result, const Tensor& into) {
    if (result.data_ptr() == into.data_ptr() && result.numel() == into.numel()) return;
    if (result.numel() != into.numel()) into.resize_(result.sizes());
    into.copy_(result.reshape(into.sizes()));
  }

  at::TensorList params_, state_;

 public:
  std::vector<Slot> slots;
};

Observations observations(const Plan& plan, at::TensorList observed) {
  TORCH_CHECK_VALUE(observed.size() == plan.observed.size(), "schatten: expected ", plan.observed.size(),
                    " observations, got ", observed.size());
  Observations seen;
  for (size_t i = 0; i < observed.size(); ++i) {
    const auto& [what, block] = plan.observed[i];
    seen[what][block] = observed[i].detach();
  }
  return seen;
}

}  // namespace

std::string declare(const std::string& recipe, const std::vector<double>& hyper) {
  return in_pythons_words([&] { return declared(recipe, hyper); });
}

std::string infer(const std::string& parameters) {
  return in_pythons_words([&] { return inferred(parameters); });
}

void step(at::TensorList params, at::TensorList grads, at::TensorList state, const std::string& recipe,
          const Tensor& hyper, at::TensorList observed) {
  in_pythons_words([&] {
    const PlainArithmetic plain;
    const auto plan = cached_plan(recipe, numbers(hyper));
    const Observations seen = observations(*plan, observed);
    plan->stepper.check_observations(seen);
    Borrowed borrowed(*plan, params, grads, state);
    plan->stepper.step(borrowed.slots, plan->rates);
    plan->stepper.control(borrowed.slots, seen);
    borrowed.give_back(*plan);
  });
}

void probe(at::TensorList params, at::TensorList grads, at::TensorList state, const std::string& recipe,
           const Tensor& hyper) {
  in_pythons_words([&] {
    const PlainArithmetic plain;
    const auto plan = cached_plan(recipe, numbers(hyper));
    Borrowed borrowed(*plan, params, grads, state);
    plan->stepper.probe(borrowed.slots);
    borrowed.give_back(*plan);
  });
}

std::vector<Tensor> sharpness_ascent(at::TensorList params, at::TensorList grads, const std::vector<double>& rho,
                                     const c10::List<bool>& adaptive) {
  return in_pythons_words([&] {
    TORCH_CHECK_VALUE(rho.size() == adaptive.size(), "schatten: expected as many `rho` as `adaptive`, got ", rho.size(),
                      " and ", adaptive.size());
    std::vector<SharpnessOptions> options;
    for (size_t i = 0; i < rho.size(); ++i) options.push_back({.rho = rho[i], .adaptive = adaptive[i]});
    return each_sharpness_ascent(params.vec(), grads.vec(), options);
  });
}

}  // namespace schatten::ops
