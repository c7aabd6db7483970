#include <schatten/kernels/bfloat16_impl.h>
#include <schatten/kernels/elementwise.h>
#include <schatten/kernels/elementwise_impl.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

/// An X of so many bytes has left the near caches before anybody reads it: it is written past them, which spares
/// reading its memory first. Measured with one reading of X after it: 5 to 25 % slower below 16 MiB, 10 to 40 % faster
/// from 32 MiB on.
constexpr int64_t kPastCaches = int64_t{3} << 23;

const ElementwiseKernels& kernels(Isa isa) {
  const ElementwiseKernels* found = nullptr;
  if (isa >= Isa::avx512) found = elementwise_avx512();
  else if (isa >= Isa::avx2) found = elementwise_avx2();
  return found ? *found : elementwise_portable();
}

/// As at::lerp takes a double: rounded, and from the end where half or more of it is wanted.
MixConstants mix(double weight) {
  const auto w = static_cast<float>(weight);
  return std::abs(w) < 0.5f ? MixConstants{w, false} : MixConstants{w - 1, true};
}

ElementwiseConstants constants_of(const WeightRule& r, bool bfloat16) {
  ElementwiseConstants c{};
  c.before = c.root_scale = c.after = 1;
  const auto number = [&](double x) {
    return bfloat16 ? widened(bfloat16_bits(static_cast<float>(x))) : static_cast<float>(x);
  };
  c.minus_lr = number(-r.lr);
  c.scale = static_cast<float>(r.scale);
  c.shrink_before = r.shrink == Shrink::before ? static_cast<float>(1 - r.shrink_by) : 1;
  c.shrink_after = r.shrink == Shrink::after ? static_cast<float>(1 - r.shrink_by) : 1;
  c.cautious = r.shrink == Shrink::cautious;
  c.minus_by = number(-r.shrink_by);
  c.coupled = static_cast<float>(r.coupled);
  return c;
}

void set(ElementwiseConstants& c, const MomentumRule& r) {
  c.average = r.average;
  c.nesterov = r.nesterov;
  c.mix = mix(1 - r.decay);
  c.look = mix(r.decay);
  c.mu = static_cast<float>(r.decay);
}

void set_second_moment(ElementwiseConstants& c, double decay, double eps) {
  c.beta2 = static_cast<float>(decay);
  c.share2 = static_cast<float>(1 - decay);
  c.eps = static_cast<float>(eps);
}

void run(Isa isa, ElementwiseRule rule, const ElementwiseConstants& constants, const Entries& e) {
  kernels(isa).step(
      rule, constants,
      {e.grad.data, e.weight.data, e.first, e.second, e.update, e.count, e.grad.bfloat16, e.weight.bfloat16, false});
}

template <class Number>
auto* advanced(Number* data, bool bfloat16, int64_t entries) {
  using Byte = std::conditional_t<std::is_const_v<Number>, const char, char>;
  return static_cast<Byte*>(data) + entries * (bfloat16 ? 2 : 4);
}

}  // namespace

double momentum_into(Isa isa, const MomentumRule& rule, ConstNumbers grad, float* momentum, Numbers x, int64_t count) {
  ElementwiseConstants c = constants_of({}, false);
  set(c, rule);
  const bool past_caches = count * (x.bfloat16 ? 2 : 4) >= kPastCaches && reinterpret_cast<uintptr_t>(x.data) % 64 == 0;
  double squares = 0;
  for (int64_t from = 0; from < count; from += kElementwisePiece)
    squares += kernels(isa).momentum_into(
        c, {advanced(grad.data, grad.bfloat16, from), advanced(x.data, x.bfloat16, from), momentum + from, nullptr,
            nullptr, std::min(kElementwisePiece, count - from), grad.bfloat16, x.bfloat16, past_caches});
  return squares;
}

void apply_update(Isa isa, const WeightRule& rule, ConstNumbers update, Numbers weight, int64_t count) {
  run(isa, ElementwiseRule::given, constants_of(rule, weight.bfloat16),
      {.grad = update, .weight = weight, .count = count});
}

void step_momentum(Isa isa, const MomentumRule& rule, bool sign, const WeightRule& weight, const Entries& entries) {
  ElementwiseConstants c = constants_of(weight, entries.weight.bfloat16);
  set(c, rule);
  using enum ElementwiseRule;
  run(isa, !entries.first ? given : sign ? momentum_sign : momentum, c, entries);
}

void step_adam(Isa isa, const AdamRule& rule, const WeightRule& weight, const Entries& entries) {
  ElementwiseConstants c = constants_of(weight, entries.weight.bfloat16);
  set_second_moment(c, rule.beta2, rule.eps);
  c.mix = mix(1 - rule.beta1);
  c.before = static_cast<float>(rule.before);
  c.root_scale = static_cast<float>(rule.root_scale);
  c.after = static_cast<float>(rule.after);
  run(isa, entries.first ? ElementwiseRule::adam : ElementwiseRule::adam_without_first, c, entries);
}

void step_rmsprop(Isa isa, const RmspropRule& rule, const WeightRule& weight, const Entries& entries) {
  ElementwiseConstants c = constants_of(weight, entries.weight.bfloat16);
  set_second_moment(c, rule.alpha, rule.eps);
  set(c, {.average = false, .decay = rule.momentum, .nesterov = rule.nesterov});
  run(isa, ElementwiseRule::rmsprop, c, entries);
}

void step_adagrad(Isa isa, const AdagradRule& rule, const WeightRule& weight, const Entries& entries) {
  ElementwiseConstants c = constants_of(weight, entries.weight.bfloat16);
  c.eps = static_cast<float>(rule.eps);
  c.after = static_cast<float>(rule.after);
  run(isa, ElementwiseRule::adagrad, c, entries);
}

void step_lion(Isa isa, const LionRule& rule, const WeightRule& weight, const Entries& entries) {
  ElementwiseConstants c = constants_of(weight, entries.weight.bfloat16);
  c.mix = mix(1 - rule.beta2);
  c.look = mix(rule.beta1);
  run(isa, ElementwiseRule::lion, c, entries);
}

}  // namespace schatten
