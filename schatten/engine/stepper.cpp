#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/engine/tasks.h>
#include <schatten/engine/update_impl.h>

#include <algorithm>
#include <mutex>

namespace schatten {

namespace {

double predicted_flops(const ParameterInfo& p, Locality locality) {
  const auto m = static_cast<double>(p.rows()), n = static_cast<double>(p.cols());
  return locality == Locality::matrix ? 30 * m * n * std::min(m, n) : 10 * m * n;
}

void check_gradient(const Slot& slot) {
  const Tensor& g = slot.grad;
  if (g.layout() == at::kStrided && !g.is_complex()) return;
  fail_usage({"Optimizer::step", "dense real gradients",
              std::string(g.layout() == at::kStrided ? "a complex" : "a sparse") + " one for '" +
                  slot.parameter.info.name + "'",
              g.layout() == at::kStrided ? "Use its real view." : "Make it dense: embedding(..., sparse = false)."});
}

}  // namespace

Locality locality_of(const Recipe& recipe) {
  const Locality direction = recipe.direction.traits().locality;
  return recipe.retract.active() ? std::max(direction, Locality::row) : direction;
}

Stepper::Stepper(std::vector<Route> routes, OptimizerOptions options)
    : routes_(std::move(routes)), options_(std::move(options)) {
  for (const Route& route : routes_) {
    check_recipe(route.recipe);
    twins_.push_back(options_.fused ? fused_twin(route.recipe) : std::nullopt);
    matrix_twins_.push_back(options_.fused ? MatrixTwin::of(route.recipe) : std::nullopt);
  }
}

at::ScalarType Stepper::dtype(const Slot& s) const {
  return options_.state_dtype.value_or(at_least_float32(s.parameter.tensor.scalar_type()));
}

Bucket Stepper::bucket(const Slot& s) const {
  return bucket_of(s.parameter.info, dtype(s), s.parameter.tensor.device(), Rng(options_.seed));
}

State Stepper::fresh_state(const Slot& s) const {
  const Bucket b = bucket(s);
  return State(recipe(s).direction.state(b), b);
}

bool Stepper::batched(const Slot& s) const {
  const Traits traits = recipe(s).direction.traits();
  return options_.batched.value_or(!s.parameter.tensor.is_cpu()) && traits.batches && !traits.draws;
}

const FusedTwin* Stepper::twin(const Slot& s) const {
  const auto& found = twins_[s.route];
  return found && fits_fused(s.parameter.tensor, dtype(s)) ? &*found : nullptr;
}

const MatrixTwin* Stepper::matrix_twin(const Slot& s) const {
  const auto& found = matrix_twins_[s.route];
  return found && fits_fused(s.parameter.tensor, dtype(s)) ? &*found : nullptr;
}

std::string Stepper::kernel(size_t route) const {
  if (!twins_[route] && !matrix_twins_[route]) return "";
  const std::string kernel = twins_[route] ? twins_[route]->kernel : matrix_twins_[route]->kernel();
  return "fused " + kernel + ", " + std::string(enum_name(options_.isa));
}

void check_parameter(const Parameter& p) {
  const Tensor& t = p.tensor;
  if (!t.defined() || !t.is_floating_point() || t.layout() != at::kStrided)
    fail_usage({"Optimizer", "dense real floating-point parameters",
                "'" + p.info.name + "' of type " + (t.defined() ? c10::toString(t.scalar_type()) : "undefined"),
                "Leave it out, or convert it."});
  if (!t.is_contiguous())
    fail_usage({"Optimizer", "contiguous parameters", "'" + p.info.name + "' with other strides",
                "Make it contiguous before training."});
  if (t.sizes() != at::IntArrayRef(p.info.shape))
    fail_usage({"Optimizer", "a tensor of the shape stated for '" + p.info.name + "'", c10::str(t.sizes()), ""});
}

namespace {

/// What a step is made of.
struct Work {
  std::vector<Task> tasks;     // on the CPU
  std::vector<Task> launches;  // of work on other devices
  std::vector<Task>& of(const Slot& slot) { return slot.parameter.tensor.is_cpu() ? tasks : launches; }
};

/// One task for a matrix; many for an elementwise recipe on a large tensor of the CPU.
void add_stages(Work& work, const Turn& turn, Slot& slot, at::ScalarType dtype) {
  const ParameterInfo& info = slot.parameter.info;
  const Tensor param = as_matrix(slot.parameter.tensor.detach(), info);
  const Tensor grad = as_matrix(slot.grad, info);
  const Locality locality = locality_of(turn.recipe);
  const int64_t n = param.numel();
  if (locality != Locality::elementwise || n <= kElementwisePiece || turn.watch || !param.is_cpu()) {
    work.of(slot).push_back({predicted_flops(info, locality),
                             [=, &slot] { update_matrix(turn, slot, slot.state, param, grad, dtype); },
                             locality == Locality::matrix});
    return;
  }
  for (int64_t from = 0; from < n; from += kElementwisePiece) {
    const int64_t count = std::min(kElementwisePiece, n - from);
    work.tasks.push_back({10.0 * static_cast<double>(count), [=, &slot] {
                            const auto piece = [&](const Tensor& t) { return t.view({1, n}).narrow(1, from, count); };
                            State state = slot.state.viewed(piece);
                            update_matrix(turn, slot, state, piece(param), piece(grad.contiguous()), dtype);
                          }});
  }
}

void add_batch(Work& work, const Turn& turn, Batch batch, at::ScalarType dtype) {
  Slot& first = *batch.front();
  if (batch.size() == 1) return add_stages(work, turn, first, dtype);
  const Locality locality = locality_of(turn.recipe);
  const double cost = static_cast<double>(batch.size()) * predicted_flops(first.parameter.info, locality);
  work.of(first).push_back({cost, [turn, batch = std::move(batch), dtype] { update_batch(turn, batch, dtype); },
                            locality == Locality::matrix});
}

/// What a kernel can read: the gradient itself, where it can be.
Tensor readable(const Tensor& grad) {
  const bool known = grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16;
  return (known ? grad : grad.to(at::kFloat)).resolve_neg().contiguous();
}

FusedStep fused_step(const Turn& turn, Slot& slot) {
  return {.step = slot.steps,
          .lr = turn.lr,
          .decay = decay_of(turn.recipe, slot),
          .parameter = &slot.parameter.info,
          .state = &slot.state,
          .param = slot.parameter.tensor.detach(),
          .grad = readable(slot.grad)};
}

/// Where the update goes when somebody watches.
Tensor room_for(const Turn& turn, const ParameterInfo& info) {
  return turn.watch ? at::empty({info.rows(), info.cols()}, at::kFloat) : Tensor();
}

/// The same kernel, and what it did is kept to be seen.
Task watched_task(const FusedTwin& twin, const Turn& turn, FusedStep step) {
  const ParameterInfo& info = *step.parameter;
  return {predicted_flops(info, Locality::elementwise), [&twin, turn, &info, step = std::move(step)]() mutable {
            step.update = room_for(turn, info);
            twin.run(step, turn.options.isa, 0, info.numel());
            turn.watch({info, step.update, step.lr});
          }};
}

Task matrix_task(const MatrixTwin& twin, const Turn& turn, Slot& slot) {
  const ParameterInfo& info = slot.parameter.info;
  return {predicted_flops(info, Locality::matrix),
          [&twin, turn, &slot, &info] {
            FusedStep step = fused_step(turn, slot);
            step.update = room_for(turn, info);
            const auto eta =
                twin.run(step, stage_step(turn, slot, as_matrix(step.grad, info), as_matrix(step.param, info)));
            if (turn.watch && eta) turn.watch({info, step.update, *eta});
          },
          true};
}

}  // namespace

void Stepper::step(std::vector<Slot>& slots, const std::vector<double>& rates, const Watch& watch) const {
  std::mutex one_at_a_time;
  Watch guarded;
  if (watch)
    guarded = [&](const UpdateView& view) {
      const std::scoped_lock lock(one_at_a_time);
      watch(view);
    };
  for (const Slot& s : slots)
    if (s.grad.defined()) check_gradient(s);
  const auto turn_of = [&](const Slot& s) { return Turn{recipe(s), options_, rates[s.route], guarded}; };
  Work work;
  std::vector<FusedJob> jobs;
  Batch together;
  for (Slot& s : slots) {
    if (!s.grad.defined()) continue;
    ++s.steps;
    const Turn turn = turn_of(s);
    if (batched(s)) {
      together.push_back(&s);
    } else if (const FusedTwin* fused = twin(s)) {
      if (guarded) work.tasks.push_back(watched_task(*fused, turn, fused_step(turn, s)));
      else jobs.push_back({fused, fused_step(turn, s)});
    } else if (const MatrixTwin* matrix = matrix_twin(s)) {
      work.tasks.push_back(matrix_task(*matrix, turn, s));
    } else {
      add_stages(work, turn, s, dtype(s));
    }
  }
  for (const Batch& batch : batches_of(together)) add_batch(work, turn_of(*batch[0]), batch, dtype(*batch[0]));
  add_fused_tasks(work.tasks, std::move(jobs), options_.isa);
  // Tasks write below version counting; a backward through old weights must still be refused, even where a task throws.
  for (Slot& s : slots)
    if (s.grad.defined()) s.parameter.tensor.unsafeGetTensorImpl()->bump_version();
  run_in_order(work.launches);
  run_tasks(std::move(work.tasks));
}

void Stepper::check_observations(const Observations& seen) const {
  for (const Route& route : routes_)
    for (const Controller& controller : route.recipe.controllers)
      if (const std::string what = controller.wants(); !what.empty() && !seen.contains(what))
        fail({"recipe '" + route.recipe.name + "'", "'" + what + "' of every block before each step",
              "nothing observed since the last one", "Call observe(\"" + what + "\", block, values) after forward."});
}

void Stepper::control(std::vector<Slot>& slots, const Observations& seen) const {
  const at::NoGradGuard no_grad;
  for (size_t r = 0; r < routes_.size(); ++r) {
    const Recipe& recipe = routes_[r].recipe;
    if (recipe.controllers.empty()) continue;
    int64_t step = 0;
    for (const Slot& s : slots)
      if (s.route == r) step = std::max(step, s.steps);
    for (const Controller& controller : recipe.controllers) {
      std::vector<Controlled> all;
      for (Slot& s : slots) {
        if (s.route != r && !controller.sees_all()) continue;
        all.push_back({s.parameter.info, s.parameter.tensor.detach(), s.weight_decay,
                       this->recipe(s).decay.weight_decay, s.route == r});
      }
      controller.after_step(all, seen, step);
    }
  }
}

std::vector<std::string> Stepper::wants() const {
  std::vector<std::string> all;
  for (const Route& route : routes_)
    for (const Controller& c : route.recipe.controllers)
      if (!c.wants().empty() && std::find(all.begin(), all.end(), c.wants()) == all.end()) all.push_back(c.wants());
  return all;
}

void Stepper::probe(std::vector<Slot>& slots) const {
  const at::NoGradGuard no_grad;
  const Watch nobody;
  for (Slot& s : slots) {
    if (recipe(s).direction.traits().probe == ProbeKind::none || !s.grad.defined()) continue;
    check_gradient(s);
    const Tensor h = as_matrix(s.grad, s.parameter.info).to(dtype(s));
    recipe(s).direction.probe(h, s.state, stage_step({recipe(s), options_, 0, nobody}, s, h, {}));
  }
}

}  // namespace schatten
