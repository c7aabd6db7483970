#include <ATen/ATen.h>
#include <schatten/engine/fused_impl.h>
#include <schatten/engine/fused_matrix.h>
#include <schatten/stages/scaling.h>

#include <cmath>

namespace schatten {

std::optional<MatrixTwin> MatrixTwin::of(const Recipe& recipe) {
  if (recipe.retract.active() || (recipe.decay.active() && recipe.decay.form == DecayForm::coupled))
    return std::nullopt;
  std::vector<Stage> stages = recipe.direction.parts();
  if (stages.size() < 2 || recipe.direction.traits().locality != Locality::matrix) return std::nullopt;
  const auto front = momentum_rule(stages[0].to_value());
  if (!front) return std::nullopt;
  MatrixTwin twin;
  twin.front_ = *front;
  if (const auto scale = read_stage<ScaleByShape>(stages.back().to_value(), "scale_by_shape")) {
    twin.shape_ = scale->shape;
    stages.pop_back();
  }
  twin.between_.assign(stages.begin() + 1, stages.end());
  const auto polar =
      stages.size() == 2 ? read_stage<Orthogonalize>(stages[1].to_value(), "orthogonalize") : std::nullopt;
  if (polar && polar->schedule != "exact") twin.polar_ = {newton_schulz_options(*polar), polar->compute};
  return twin;
}

std::string MatrixTwin::kernel() const {
  std::string text = "momentum";
  for (const Stage& stage : between_) text += ", " + stage.name();
  return text + ", step";
}

std::optional<PolarPlan> MatrixTwin::kernel_plan(int64_t rows, int64_t cols, Isa isa) const {
  if (!polar_ || polar_->options.schedule.preconditioner != Preconditioner::none) return std::nullopt;
  PolarPlan plan = plan_polar(rows, cols, compute_dtype(polar_->compute, at::kFloat, isa), polar_->options, isa);
  return plan.kernels ? std::optional(std::move(plan)) : std::nullopt;
}

namespace {

/// The buffer that the orthogonal factor takes the place of the momentum in.
struct Buffer {
  Plain plain;
  Numbers numbers;
  ConstNumbers read;
};

Buffer take_buffer(Scratch& scratch, int64_t rows, int64_t cols, bool half) {
  if (half) {
    auto* const p = scratch.take<uint16_t>(rows * cols);
    return {{.bf16 = p, .row_stride = cols}, p, p};
  }
  auto* const p = scratch.take<float>(rows * cols);
  return {{.f32 = p, .row_stride = cols}, p, p};
}

}  // namespace

void MatrixTwin::orthogonalized(const FusedStep& s, const PolarPlan& plan, Isa isa, double scale) const {
  const int64_t rows = s.parameter->rows(), cols = s.parameter->cols(), count = rows * cols;
  const bool half = plan.arithmetic == Arithmetic::bfloat16;
  Scratch scratch;
  const Buffer x = take_buffer(scratch, rows, cols, half);
  const double squares = momentum_into(isa, front_, numbers<ConstNumbers>(s.grad, 0),
                                       floats(s.state->child(0)["momentum_buffer"], 0), x.numbers, count);
  newton_schulz_into(plan, polar_->options, isa, x.plain, std::sqrt(squares), rows, cols, x.plain);
  WeightRule rule = weight_rule(s);
  rule.scale = scale;
  apply_update(isa, rule, x.read, numbers<Numbers>(s.param, 0), count);
  if (!s.update.defined()) return;
  const Tensor update = at::from_blob(x.numbers.data, {rows, cols}, half ? at::kBFloat16 : at::kFloat);
  s.update.copy_(update).mul_(scale);
}

std::optional<double> MatrixTwin::run(const FusedStep& s, Step step) const {
  const int64_t rows = s.parameter->rows(), cols = s.parameter->cols(), count = rows * cols;
  const double scale = shape_factor(shape_, *s.parameter);
  if (const auto plan = kernel_plan(rows, cols, step.isa)) {
    orthogonalized(s, *plan, step.isa, scale);
    return s.lr;
  }
  step.grad = step.grad.to(at::kFloat);
  Tensor u = at::empty({rows, cols}, at::kFloat);
  momentum_into(step.isa, front_, numbers<ConstNumbers>(s.grad, 0), floats(s.state->child(0)["momentum_buffer"], 0),
                u.mutable_data_ptr<float>(), count);
  double rate = 1;
  step.rate = &rate;
  for (size_t i = 0; i < between_.size(); ++i) {
    u = between_[i].apply_in_place(u, s.state->child(i + 1), step);
    if (!u.defined()) return std::nullopt;
  }
  FusedStep taken = s;
  taken.lr *= rate;
  WeightRule rule = weight_rule(taken);
  rule.scale = scale;
  u = u.contiguous();
  apply_update(step.isa, rule, u.const_data_ptr<float>(), numbers<Numbers>(s.param, 0), count);
  if (s.update.defined()) s.update.copy_(u).mul_(scale);
  return taken.lr;
}

}  // namespace schatten
