// What the parts of Optimizer share; not public.
#pragma once
#include <schatten/engine/optimizer.h>
#include <schatten/engine/stepper.h>

namespace schatten {

struct Optimizer::Impl {
  Stepper stepper;
  std::vector<Slot> slots{};
  Observations seen{};  // since the last step

  const std::vector<Route>& routes() const { return stepper.routes(); }
  /// Runs `work` on the slots while they hold their parameters' present gradients.
  template <class Work>
  void with_gradients(Work&& work) {
    for (Slot& s : slots) s.grad = s.parameter.tensor.grad();
    work(slots);
    for (Slot& s : slots) s.grad.reset();
  }
  template <class Visit>
  void each_state(Visit&& visit) {
    for (Slot& s : slots) s.state.each(visit, s.parameter.info.name + "/");
  }
};

}  // namespace schatten
