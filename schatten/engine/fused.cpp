#include <ATen/ATen.h>
#include <schatten/core/shape_scale.h>
#include <schatten/engine/fused_impl.h>
#include <schatten/stages/adagrad.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/momentum.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace schatten {

WeightRule weight_rule(const FusedStep& s) {
  WeightRule rule{.lr = s.lr};
  if (!s.decay.active()) return rule;
  rule.shrink_by = s.lr * s.decay.weight_decay;
  switch (s.decay.form) {
    case DecayForm::none: break;
    case DecayForm::decoupled: rule.shrink = Shrink::before; break;
    case DecayForm::after: rule.shrink = Shrink::after; break;
    case DecayForm::coupled: rule.coupled = s.decay.weight_decay; break;
    case DecayForm::cautious_squared:
      rule.shrink_by *= s.lr * shape_factor(ShapeScale::jordan, *s.parameter);
      [[fallthrough]];
    case DecayForm::cautious: rule.shrink = Shrink::cautious; break;
  }
  return rule;
}

std::optional<MomentumRule> momentum_rule(const Value& printed) {
  if (const auto o = read_stage<Ema>(printed, "ema")) {
    const auto [beta, nesterov] = *o;
    return MomentumRule{.average = true, .decay = beta, .nesterov = nesterov};
  }
  if (const auto o = read_stage<HeavyBall>(printed, "heavy_ball")) {
    const auto [momentum, nesterov] = *o;
    return MomentumRule{.average = false, .decay = momentum, .nesterov = nesterov};
  }
  return std::nullopt;
}

namespace {

// --- reading a recipe ---

bool is_stage(const Value& printed, std::string_view name) {
  const Value* stage = printed.find("stage");
  return stage && stage->as_string() == name;
}

/// A direction as a list of stages, and where each keeps its state.
struct Chained {
  std::vector<Value> stages;
  bool chain = false;

  explicit Chained(const Value& direction) {
    const Value* list = direction.find("chain");
    chain = list != nullptr;
    stages = chain ? list->as_array() : Value::Array{direction};
  }
  auto state_at(size_t index) const {
    return [chain = chain, index](const FusedStep& s) -> State& { return chain ? s.state->child(index) : *s.state; };
  }
};

Entries entries(const FusedStep& s, int64_t from, int64_t count) {
  return {.grad = numbers<ConstNumbers>(s.grad, from),
          .weight = numbers<Numbers>(s.param, from),
          .update = s.update.defined() ? floats(s.update, from) : nullptr,
          .count = count};
}

// --- the twins. Options are taken apart by name: one that is added later cannot be left out unseen ---

FusedTwin adam_twin(const ScaleByAdam& options, auto state_of) {
  return {"adam", [=](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            const auto [beta1, beta2, eps, form] = options;
            const auto t = static_cast<double>(s.step);
            const double correction1 = 1 - std::pow(beta1, t), root_correction2 = std::sqrt(1 - std::pow(beta2, t));
            AdamRule rule{.beta1 = beta1, .beta2 = beta2, .eps = eps};
            if (form == AdamForm::torch) rule.before = 1 / correction1, rule.root_scale = 1 / root_correction2;
            if (form == AdamForm::uncorrected_eps) rule.after = root_correction2 / correction1;
            State& state = state_of(s);
            Entries e = entries(s, from, count);
            if (beta1 != 0) e.first = floats(state["exp_avg"], from);
            e.second = floats(state["exp_avg_sq"], from);
            step_adam(isa, rule, weight_rule(s), e);
          }};
}

FusedTwin rmsprop_twin(const ScaleByAdam& scale, auto scale_state, const HeavyBall& ball, auto ball_state) {
  return {"rmsprop", [=](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            const auto [none, alpha, eps, form] = scale;
            const auto [momentum, nesterov] = ball;
            Entries e = entries(s, from, count);
            e.first = floats(ball_state(s)["momentum_buffer"], from);
            e.second = floats(scale_state(s)["exp_avg_sq"], from);
            step_rmsprop(isa, {.alpha = alpha, .eps = eps, .momentum = momentum, .nesterov = nesterov}, weight_rule(s),
                         e);
          }};
}

FusedTwin adagrad_twin(const ScaleByAdagrad& options, auto state_of) {
  return {"adagrad", [=](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            const auto [eps, initial, lr_decay] = options;
            Entries e = entries(s, from, count);
            e.second = floats(state_of(s)["sum"], from);
            if (s.step == 1) std::fill_n(e.second, count, static_cast<float>(initial));
            const double after = 1 / (1 + static_cast<double>(s.step - 1) * lr_decay);
            step_adagrad(isa, {.eps = eps, .after = after}, weight_rule(s), e);
          }};
}

FusedTwin lion_twin(const LionMomentum& options, auto state_of) {
  return {"lion", [=](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            const auto [beta1, beta2] = options;
            Entries e = entries(s, from, count);
            e.first = floats(state_of(s)["exp_avg"], from);
            step_lion(isa, {.beta1 = beta1, .beta2 = beta2}, weight_rule(s), e);
          }};
}

FusedTwin momentum_twin(const MomentumRule& rule, bool sign, auto state_of) {
  return {sign ? "sign of momentum" : "momentum", [=](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            Entries e = entries(s, from, count);
            e.first = floats(state_of(s)["momentum_buffer"], from);
            step_momentum(isa, rule, sign, weight_rule(s), e);
          }};
}

FusedTwin plain_twin() {
  return {"gradient", [](const FusedStep& s, Isa isa, int64_t from, int64_t count) {
            step_momentum(isa, {}, false, weight_rule(s), entries(s, from, count));
          }};
}

std::optional<FusedTwin> twin_of_one(const Value& stage, auto state_of) {
  if (const auto o = read_stage<ScaleByAdam>(stage, "scale_by_adam")) return adam_twin(*o, state_of);
  if (const auto o = read_stage<ScaleByAdagrad>(stage, "scale_by_adagrad")) return adagrad_twin(*o, state_of);
  if (const auto rule = momentum_rule(stage)) return momentum_twin(*rule, false, state_of);
  if (is_stage(stage, "identity")) return plain_twin();
  return std::nullopt;
}

std::optional<FusedTwin> twin_of_two(const Chained& c) {
  if (is_stage(c.stages[1], "sign")) {
    if (const auto o = read_stage<LionMomentum>(c.stages[0], "lion_momentum")) return lion_twin(*o, c.state_at(0));
    if (const auto rule = momentum_rule(c.stages[0])) return momentum_twin(*rule, true, c.state_at(0));
  }
  const auto scale = read_stage<ScaleByAdam>(c.stages[0], "scale_by_adam");
  const auto ball = read_stage<HeavyBall>(c.stages[1], "heavy_ball");
  if (scale && ball && scale->beta1 == 0 && scale->form == AdamForm::uncorrected)
    return rmsprop_twin(*scale, c.state_at(0), *ball, c.state_at(1));
  return std::nullopt;
}

}  // namespace

std::optional<FusedTwin> fused_twin(const Recipe& recipe) {
  if (recipe.retract.active()) return std::nullopt;
  const Chained c(recipe.direction.to_value());
  if (c.stages.size() == 1) return twin_of_one(c.stages[0], c.state_at(0));
  return c.stages.size() == 2 ? twin_of_two(c) : std::nullopt;
}

bool fits_fused(const Tensor& param, at::ScalarType state_dtype) {
  const at::ScalarType dtype = param.scalar_type();
  return param.device().is_cpu() && state_dtype == at::kFloat && (dtype == at::kFloat || dtype == at::kBFloat16);
}

namespace {

struct Piece {
  const FusedJob* job;
  int64_t from, count;
};

/// Pieces of at most `piece` entries, next to each other while they are not more together.
std::vector<std::vector<Piece>> grouped(const std::vector<FusedJob>& jobs, int64_t piece) {
  std::vector<std::vector<Piece>> groups;
  int64_t room = 0;
  for (const FusedJob& job : jobs)
    for (int64_t from = 0, n = job.step.param.numel(); from < n; from += piece) {
      const int64_t count = std::min(piece, n - from);
      if (count > room) {
        groups.emplace_back();
        room = piece;
      }
      groups.back().push_back({&job, from, count});
      room -= count;
    }
  return groups;
}

}  // namespace

void add_fused_tasks(std::vector<Task>& tasks, std::vector<FusedJob> jobs, Isa isa, int64_t piece) {
  const auto kept = std::make_shared<const std::vector<FusedJob>>(std::move(jobs));
  for (std::vector<Piece>& group : grouped(*kept, piece)) {
    int64_t entries = 0;
    for (const Piece& p : group) entries += p.count;
    tasks.push_back({10.0 * static_cast<double>(entries), [kept, isa, group = std::move(group)] {
                       for (const Piece& p : group) p.job->twin->run(p.job->step, isa, p.from, p.count);
                     }});
  }
}

}  // namespace schatten
