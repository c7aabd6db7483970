#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/sign_between.h>

#include <algorithm>

namespace schatten {

namespace {

/// |X|_F^2 / sigma_1^2 of one matrix; NaN for zero.
double stable_rank(const Tensor& u, int iterations, const Rng& rng) {
  const at::ScalarType dtype = at_least_float32(u.scalar_type());
  Tensor x = u.to(dtype);
  x = x / x.abs().max();  // squares of tiny entries would vanish
  Tensor v = rng.normal({x.size(1), 1}, dtype).to(x.device());
  for (int i = 0; i < iterations; ++i) {
    v = at::mm(x.mT(), at::mm(x, v));
    v = v / v.norm();
  }
  return (x.square().sum() / at::mm(x, v).square().sum()).item<double>();
}

struct SignBetweenModel {
  SignBetween options;
  Stage inner;

  std::string name() const { return "sign_between"; }
  Traits traits() const {
    Traits t = inner.traits();
    if (options.trigger == 0) return t;
    t.locality = Locality::matrix;
    t.batches = false;  // each matrix decides for itself
    return t;
  }
  StateSpec state(const Bucket& b) const { return {.name = name(), .children = {inner.state(b)}}; }
  bool takes_inner(const Tensor& u, const Step& step) const {
    if (options.trigger == 0) return (step.step - 1) % options.every == 0;
    const auto rank = static_cast<double>(std::min(u.size(-2), u.size(-1)));
    return stable_rank(u, options.power_iterations, step.rng.of(name()).at(step.step)) <= options.trigger * rank;
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    if (takes_inner(u, step)) return inner.apply(u, s.child(0), step);
    take_at(step, options.rate);
    State none;
    return Sign{}.apply(u, none, step);
  }
  void probe(const Tensor& h, State& s, const Step& step) const { inner.probe(h, s.child(0), step); }
  std::string decided(const Bucket& b, Isa isa) const { return inner.decided(b, isa); }
  std::string noticed() const { return inner.noticed(); }
  Value to_value() const { return bracket_value(name(), options, inner); }
};

}  // namespace

Stage sign_between(const SignBetween& o, Stage inner) {
  if (o.every < 1) fail_usage({"sign_between", "every >= 1", std::to_string(o.every), "1: the inner stage always."});
  check_non_negative("sign_between", "rate", o.rate);
  check_non_negative("sign_between", "trigger", o.trigger);
  if (o.power_iterations < 1)
    fail_usage({"sign_between", "power_iterations >= 1", std::to_string(o.power_iterations), "3 is the authors'."});
  return SignBetweenModel{o, std::move(inner)};
}

}  // namespace schatten
