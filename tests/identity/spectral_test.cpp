// Spectral powers in settings where they must equal something known.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/papers/papers.h>
#include <schatten/papers/registry.h>
#include <schatten/stages/alternate.h>
#include <schatten/stages/in_eigenbasis.h>
#include <schatten/stages/registry.h>

#include <cmath>
#include <limits>

namespace schatten {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor draw(const std::vector<int64_t>& shape, int64_t n) { return Rng(41).at(n).normal(shape, at::kDouble); }
double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }
double share(const Tensor& a, const Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }
Recipe chain_of(std::vector<Stage> stages) { return {.name = "custom", .direction = chain(std::move(stages))}; }

/// A few steps on one matrix, undecayed, lr 1, W from 0: what each step subtracts.
std::vector<Tensor> updates(const Recipe& recipe, int64_t steps = 7, double scale = 1, int64_t rows = 12,
                            int64_t cols = 16) {
  const Tensor w = at::zeros({rows, cols}, at::kDouble).requires_grad_(true);
  Optimizer opt(std::vector<Parameter>{{infer_parameter("w", w, 0), w}}, {{"any", recipe, 1.0}});
  std::vector<Tensor> all;
  Tensor before = w.detach().clone();
  for (int64_t t = 1; t <= steps; ++t) {
    w.mutable_grad() = draw({rows, cols}, t) * scale;
    opt.step();
    all.push_back(before - w.detach());
    before = w.detach().clone();
  }
  return all;
}
double worst(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, distance(a[i], b[i]));
  return most;
}

/// One stage stepped by hand.
struct Driven {
  Stage stage;
  ParameterInfo info;
  State state{};
  int64_t step = 0;
  Driven(Stage s, std::vector<int64_t> shape) : stage(std::move(s)), info{.name = "w", .shape = std::move(shape)} {
    const Bucket bucket = bucket_of(info, at::kDouble);
    state = State(stage.state(bucket), bucket);
  }
  Tensor operator()(const Tensor& u) {
    return stage.apply(u, state, {.step = ++step, .lr = 1, .parameter = info, .grad = u, .param = Tensor()});
  }
};

Tensor singular_values(const Tensor& x) { return at::linalg_svdvals(x); }

// --- alternate ---

TEST(Alternate, EveryOneIsOnAlone) {
  const Recipe plain = htmuon({.method = PowerMethod::svd});
  const auto in_turns = [](int every) {
    return chain_of({ema({.beta = 0.95, .nesterov = true}),
                     alternate({.every = every}, spectral_power({.method = PowerMethod::svd}), orthogonalize({})),
                     scale_by_shape({ShapeScale::jordan})});
  };
  EXPECT_EQ(worst(updates(in_turns(1)), updates(plain)), 0);
  EXPECT_GT(worst(updates(in_turns(2)), updates(plain)), 1e-3);
}

TEST(Alternate, StepsAreThoseOfThePhase) {
  const auto ons = [](int every, int phase) {
    Driven run(alternate({.every = every, .phase = phase}, scale(2), scale(1)), {3, 4});
    std::string seen;
    for (int t = 1; t <= 7; ++t) seen += run(at::ones({3, 4}, at::kDouble))[0][0].item<double>() == 2 ? 'x' : '.';
    return seen;
  };
  EXPECT_EQ(ons(1, 0), "xxxxxxx");
  EXPECT_EQ(ons(3, 0), "..x..x.");
  EXPECT_EQ(ons(3, 1), "x..x..x");
  EXPECT_EQ(ons(3, 4), ons(3, 1));
  EXPECT_EQ(ons(10, 0), ".......");
}

TEST(Alternate, EachCountsItsOwnSteps) {
  for (const int phase : {0, 1}) {
    Driven turns(alternate({.every = 2, .phase = phase}, scale_by_adam({}), scale(0)), {3, 4}),
        alone(scale_by_adam({}), {3, 4});
    for (int64_t t = 1; t <= 6; ++t) {
      const Tensor u = turns(draw({3, 4}, t));
      if (t % 2 != phase) continue;
      EXPECT_TRUE(at::equal(u, alone(draw({3, 4}, t)))) << t;
    }
  }
}

TEST(Alternate, WithOneSizeIntervalsStepAsFarAsMuon) {
  HtmuonOptions o{.method = PowerMethod::svd, .every = 3, .update_norm = UpdateNorm::rms};
  for (const Tensor& u : updates(htmuon(o), 7, 1e-4)) EXPECT_NEAR(u.norm().item<double>(), std::sqrt(12.0), 1e-9);
  o.update_norm = UpdateNorm::none;
  const auto raw = updates(htmuon(o), 7, 1e-4);
  EXPECT_LT(raw[2].norm().item<double>(), 0.5 * raw[1].norm().item<double>());
}

TEST(Alternate, NormuonAndHtnormuonShareTheMeanSquares) {
  NormuonOptions other = normuon_variant(NormuonVariant::htmuon_repository);
  other.weight_decay = 0;
  const auto muons = updates(normuon(other)),
             turns = updates(htnormuon({.map = {.method = PowerMethod::svd}, .every = 4}));
  for (size_t t = 0; t < 3; ++t) EXPECT_TRUE(at::equal(muons[t], turns[t]));
  EXPECT_GT(distance(muons[3], turns[3]), 1e-3);
  EXPECT_GT(distance(muons[4], turns[4]), 1e-12);  // v has seen step 4 as it was
}

// --- spectral_power as released ---

TEST(SpectralReleased, StreamingSettlesOnTheExactPower) {
  const Tensor q = std::get<0>(at::linalg_qr(draw({12, 12}, 1))), r = std::get<0>(at::linalg_qr(draw({16, 12}, 2)));
  const Tensor sigma = at::arange(1, 13, at::kDouble).reciprocal();
  const Tensor x = at::mm(q * sigma, r.mT()), exact = spectral_power_svd(x, 0.125);
  Driven run(spectral_power({.method = PowerMethod::streaming}), {12, 16});
  double error = 0, first = 0;
  for (int t = 1; t <= 400; ++t) {
    error = share(run(x), exact);
    if (t == 1) first = error;
  }
  EXPECT_GT(first, 0.05);
  EXPECT_LT(error, 1e-6);
  EXPECT_EQ(run.state["V"].sizes(), at::IntArrayRef({16, 12}));
}

/// The recurrence of one singular value at a time, the zeros of the longer side included.
std::vector<double> released_oracle(std::vector<double> sigma, int64_t cols, int roots, double eps) {
  double norm = 0;
  for (const double s : sigma) norm += s * s;
  norm = std::sqrt(norm);
  std::vector<double> polar, gram(static_cast<size_t>(cols), eps);
  for (size_t i = 0; i < sigma.size(); ++i) {
    double y = sigma[i] / (norm + 1e-7);
    for (int k = 0; k < 5; ++k) y = 3.4445 * y - 4.7750 * std::pow(y, 3) + 2.0315 * std::pow(y, 5);
    polar.push_back(y);
    gram[i] += sigma[i] * sigma[i];
  }
  for (int j = 0; j < roots; ++j) {
    double alpha = 0;
    for (const double s : gram) alpha += s * s;
    alpha = std::max(std::sqrt(alpha), eps);
    for (double& s : gram) {
      double y = s / alpha, z = 1;
      for (int k = 0; k < 5; ++k) {
        const double t = 3 - z * y;
        y *= t / 2;
        z *= t / 2;
      }
      s = std::sqrt(alpha) * y + eps;
    }
  }
  for (size_t i = 0; i < sigma.size(); ++i) sigma[i] = polar[i] * gram[i];
  return sigma;
}

TEST(SpectralReleased, NewtonSchulzRootsFollowTheirScalarRecurrence) {
  for (const double power : {0.125, 0.2, 0.03125}) {
    const std::vector<double> sigma{3, 1, 0.3, 0.02};
    const int roots = static_cast<int>(std::lround(1 - std::log2(power)));
    const std::vector<double> expected = released_oracle(sigma, 6, roots, 1e-6);
    const Tensor x = at::zeros({4, 6}, at::kDouble);
    for (int64_t i = 0; i < 4; ++i) x[i][i] = sigma[static_cast<size_t>(i)];
    const Tensor d = Driven(spectral_power({.power = power, .method = PowerMethod::released}), {4, 6})(x);
    for (int64_t i = 0; i < 4; ++i)
      EXPECT_NEAR(d[i][i].item<double>(), expected[static_cast<size_t>(i)], 1e-12) << power;
    EXPECT_GT(std::abs(expected[3] / std::pow(sigma[3], power) - 1), 0.3);  // and that is no sigma^p
  }
}

TEST(SpectralReleased, RankForgetsTheSingularValues) {
  const Tensor x = draw({12, 16}, 3);
  const Tensor k = at::arange(1, 13, at::kDouble);
  for (const double factor : {1.0, 1e-6}) {
    const Tensor d = Driven(spectral_power({.power = 0.5, .method = PowerMethod::rank}), {12, 16})(x * factor);
    EXPECT_LT(distance(singular_values(d), k.pow(-0.5)), 1e-12);
  }
}

TEST(SpectralReleased, WhatMakesNoSenseIsRefused) {
  EXPECT_THROW(spectral_power({.power = 0, .method = PowerMethod::released}), UsageError);
  EXPECT_THROW(spectral_power({.ns_steps = 0}), UsageError);
  EXPECT_THROW(spectral_power({.root_steps = 101}), UsageError);
  EXPECT_THROW(spectral_power({.root_eps = -1}), UsageError);
  EXPECT_THROW(spectral_power({.compute = ComputeDtype::bfloat16}), UsageError);
  EXPECT_NO_THROW(spectral_power({.method = PowerMethod::released, .compute = ComputeDtype::bfloat16}));
  EXPECT_THROW(spectral_power({.deflate = -1}), UsageError);
  EXPECT_THROW(spectral_power({.power = 0.3, .method = PowerMethod::mixture}), UsageError);
  EXPECT_NO_THROW(spectral_power({.power = 0.3}));  // auto: rational, there
  EXPECT_THROW(spectral_power({.method = PowerMethod::svd, .compute = ComputeDtype::bfloat16x2}), UsageError);
  EXPECT_NO_THROW(spectral_power({.compute = ComputeDtype::bfloat16x2}));
  EXPECT_THROW(exact_twin({.method = PowerMethod::rank}), UsageError);
  EXPECT_NEAR(exact_twin({.power = 0.2, .method = PowerMethod::released}).f(2), std::pow(2, 0.25), 1e-15);
  EXPECT_THROW(alternate({.every = 0}, identity(), identity()), UsageError);
  EXPECT_THROW(alternate({.phase = -1}, identity(), identity()), UsageError);
  EXPECT_THROW(htmuon({.every = 0}), UsageError);
}

TEST(Htmuon, EveryMethodPrintsItselfBackAndPlansItsState) {
  for (const std::string method : {"auto", "svd", "eigh", "rational", "mixture", "released", "rank", "streaming"})
    for (const char* recipe : {"htmuon", "htnormuon", "htadamuon"}) {
      const Recipe r = make_recipe(Value::Table{{"recipe", recipe}, {"method", method}, {"every", 2}});
      EXPECT_EQ(to_json(to_value(make_recipe(parse_toml(to_toml(to_value(r)))))), to_json(to_value(r))) << method;
      const Tensor w = draw({12, 16}, 0).to(at::kFloat).requires_grad_(true);
      const std::vector<Parameter> one{{infer_parameter("w", w, 0), w}};
      Optimizer opt(one, {{"any", r, 0.1}});
      EXPECT_EQ(plan_state_bytes({one[0].info}, {{"any", r, 0.1}}, at::kFloat), opt.state_bytes());
      EXPECT_EQ(opt.slot("w", "V").defined(), method == "streaming");
    }
}

// --- deflation: a basis that is carried from step to step ---

/// Gradients with a few directions far above the rest: six the same in every step, one new.
Tensor steep_gradient(int64_t t) {
  const Tensor still = at::mm(draw({96, 6}, 1), draw({6, 128}, 2)),
               moving = at::mm(draw({96, 1}, 2 * t + 3), draw({1, 128}, 2 * t + 4));
  return (still + 0.3 * moving + 1e-2 * draw({96, 128}, 100 + t)).to(at::kFloat);
}
struct Stepped {
  Tensor w = draw({96, 128}, 0).to(at::kFloat).requires_grad_(true);
  std::vector<Parameter> one{{infer_parameter("w", w, 0), w}};
  Optimizer opt;
  explicit Stepped(const Recipe& r) : opt(one, {{"any", r, 0.1}}) {}
  void steps(int64_t from, int64_t to) {
    for (int64_t t = from; t <= to; ++t) {
      w.mutable_grad() = steep_gradient(t);
      opt.step();
    }
  }
};

TEST(Deflation, IsDeclaredPlannedAndKept) {
  const Recipe on = htmuon({}), off = htmuon({.deflate = 0});
  Stepped run(on), plain(off);
  EXPECT_EQ(run.opt.slot("w", "V").sizes(), at::IntArrayRef({96, 16}));
  EXPECT_FALSE(plain.opt.slot("w", "V").defined());
  EXPECT_EQ(plan_state_bytes({run.one[0].info}, {{"any", on, 0.1}}, at::kFloat), run.opt.state_bytes());
  EXPECT_EQ(run.opt.state_bytes() - plain.opt.state_bytes(), 96 * 16 * 4);
  run.steps(1, 2);
  EXPECT_TRUE(run.opt.slot("w", "V").any().item<bool>());
  EXPECT_FALSE(plan_state_bytes({run.one[0].info}, {{"any", on, 0.1}}, at::kDouble) > 2 * 96 * 128 * 8);  // svd: none
}

TEST(Deflation, SavedAtKAndResumedIsUninterrupted) {
  Stepped straight(htmuon({})), stopped(htmuon({}));
  straight.steps(1, 6);
  stopped.steps(1, 3);
  Stepped resumed(htmuon({}));
  resumed.w.detach().copy_(stopped.w.detach());
  resumed.opt.load_state(stopped.opt.state());
  resumed.steps(4, 6);
  EXPECT_TRUE(at::equal(straight.w, resumed.w));
  EXPECT_TRUE(at::equal(straight.opt.slot("w", "V"), resumed.opt.slot("w", "V")));
  // The basis matters: without it the same steps end elsewhere.
  Stepped forgetful(htmuon({}));
  forgetful.w.detach().copy_(stopped.w.detach());
  TensorFile state = stopped.opt.state();
  for (auto& [name, tensor] : state.tensors)
    if (name.ends_with("/V")) tensor = at::zeros_like(tensor);
  forgetful.opt.load_state(state);
  forgetful.steps(4, 6);
  EXPECT_FALSE(at::equal(straight.w, forgetful.w));
}

TEST(Deflation, ComesNearerToTheExactMap) {
  const auto end = [](const Recipe& r) {
    Stepped run(r);
    const Tensor before = run.w.detach().clone();
    run.steps(1, 4);
    return run.w.detach() - before;
  };
  const Tensor exact = end(htmuon({.method = PowerMethod::svd}));
  EXPECT_LT(share(end(htmuon({})), exact), 0.03);
  EXPECT_GT(share(end(htmuon({.deflate = 0})), exact), 0.1);
}

TEST(Deflation, ABasisBracketMayHoldIt) {
  const Recipe r = chain_of({in_eigenbasis({}, spectral_power({}))});
  Stepped inside(r);
  inside.steps(1, 4);
  EXPECT_TRUE(inside.w.isfinite().all().item<bool>());
  EXPECT_TRUE(inside.opt.slot("w", "V").defined());
}

// --- schatten_descent ---

/// |S|_r of a matrix.
double schatten_norm(const Tensor& x, double r) {
  const Tensor s = singular_values(x);
  return r == kInf ? s.max().item<double>() : at::linalg_vector_norm(s, r).item<double>();
}
Tensor descent(const SchattenDescent& o, const Tensor& x) { return Driven(schatten_descent(o), {12, 16})(x); }

TEST(SchattenDescentIdentity, IsTheSteepestDirectionOfItsNorm) {
  const Tensor g = draw({12, 16}, 4);
  for (const double q : {2.0, 2.5, 5.0, 9.0, 33.0, kInf}) {
    const double dual = q == kInf ? 1 : q / (q - 1);
    const Tensor u = descent({.q = q}, g);
    EXPECT_NEAR(schatten_norm(u, q), 1, 1e-12) << q;
    EXPECT_NEAR((g * u).sum().item<double>(), schatten_norm(g, dual), 1e-11) << q;
    const Tensor steepest = descent({.q = q, .norm = DescentNorm::steepest}, g);
    EXPECT_LT(distance(steepest, u * schatten_norm(g, dual)), 1e-11) << q;
  }
}

TEST(SchattenDescentIdentity, OtherLengths) {
  const Tensor g = draw({12, 16}, 5);
  for (const double q : {2.0, 9.0, kInf}) {
    const double p = 1 / (q - 1);
    EXPECT_NEAR(descent({.q = q, .norm = DescentNorm::rms}, g).norm().item<double>(), std::sqrt(12.0), 1e-11);
    EXPECT_NEAR(schatten_norm(descent({.q = q, .norm = DescentNorm::spec}, g), kInf), 1, 1e-12);
    EXPECT_LT(distance(descent({.q = q, .norm = DescentNorm::none}, g), spectral_power_svd(g, p)), 1e-12);
  }
}

TEST(SchattenDescentIdentity, ItsEndsAreMuonAndNormalisedDescent) {
  MuonOptions exact;
  exact.polar.schedule = "exact";
  EXPECT_LT(worst(updates(schatten_descent(SchattenDescentOptions{.q = kInf})), updates(muon(exact))), 1e-12);
  const auto plain = updates(chain_of({ema({.beta = 0.95, .nesterov = true})}));
  const auto two = updates(schatten_descent(SchattenDescentOptions{.q = 2, .shape = ShapeScale::none}));
  for (size_t t = 0; t < plain.size(); ++t) EXPECT_LT(distance(two[t], plain[t] / plain[t].norm()), 1e-12);
}

TEST(SchattenDescentIdentity, DoesNotSeeTheScaleAndZeroStays) {
  const Tensor g = draw({12, 16}, 6);
  for (const double scale : {1e-30, 1e30}) EXPECT_LT(distance(descent({}, g * scale), descent({}, g)), 1e-12);
  const Tensor low = at::mm(draw({12, 2}, 7), draw({2, 16}, 8));
  EXPECT_NEAR(schatten_norm(descent({.q = kInf}, low), 1), 2, 1e-12);  // noise gets no direction
  EXPECT_EQ(descent({.q = kInf}, at::zeros({12, 16}, at::kDouble)).abs().max().item<double>(), 0);
}

TEST(SchattenDescentIdentity, InfinityIsReadAndPrinted) {
  const Recipe r = make_recipe(parse_toml("recipe = \"schatten_descent\"\nq = inf\nnorm = \"rms\""));
  const std::string printed = to_toml(to_value(r));
  EXPECT_NE(printed.find("q = inf"), std::string::npos) << printed;
  EXPECT_EQ(worst(updates(make_recipe(parse_toml(printed)), 2), updates(r, 2)), 0);
  EXPECT_THROW(schatten_descent(SchattenDescent{.q = 1.9}), UsageError);
  EXPECT_THROW(schatten_descent(SchattenDescent{.q = NAN}), UsageError);
}

// --- HTAdaMuon ---

TEST(Htadamuon, PowerZeroIsAdamuonWithAnExactPolarFactor) {
  AdamuonOptions exact;
  exact.polar.schedule = "exact";
  exact.weight_decay = 0;
  const auto ours = [](double power) {
    return updates(htadamuon({.map = {.power = power, .method = PowerMethod::svd}, .weight_decay = 0}));
  };
  EXPECT_LT(worst(ours(0), updates(adamuon(exact))), 1e-9);
  EXPECT_GT(worst(ours(0.125), updates(adamuon(exact))), 1e-4);
  for (const Tensor& u : ours(0.125)) EXPECT_NEAR(u.norm().item<double>(), 0.2 * std::sqrt(12.0 * 16), 1e-6);
}

}  // namespace
}  // namespace schatten
