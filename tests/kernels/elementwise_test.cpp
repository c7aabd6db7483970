// Element-wise kernels: the formulas in float64, the same bits for every instruction set and cut, NaN and infinity.
#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <gtest/gtest.h>
#include <schatten/core/fields.h>
#include <schatten/kernels/elementwise.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace schatten {
namespace {

constexpr int64_t kLengths[] = {0, 1, 7, 15, 16, 17, 31, 33, 1003};
constexpr float kCanary = -77.5f;  // exact in bfloat16, too

/// Numbers between 0.1 and 2 without a pattern; signed or not.
float draw(uint64_t at, bool sign) {
  uint64_t z = at * 0x9e3779b97f4a7c15u + 0x1234567;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z ^= z >> 31;
  const auto x = static_cast<float>(0.1 + 1.9 * static_cast<double>(z >> 11) * 0x1p-53);
  return sign && (z & 1) ? -x : x;
}

uint16_t to_bfloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isnan(x) ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float from_bfloat16(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

/// Numbers of one type that begin `shift` entries into their memory, with canaries around them.
struct Buffer {
  bool half = false;
  int64_t shift = 0, count = 0;
  std::vector<float> wide;
  std::vector<uint16_t> narrow;

  Buffer(int64_t n, bool half_width, int64_t begin, uint64_t stream, bool sign)
      : half(half_width), shift(begin), count(n) {
    const auto size = static_cast<size_t>(n + 2 * begin + 16);
    if (half) narrow.assign(size, to_bfloat16(kCanary));
    else wide.assign(size, kCanary);
    for (int64_t i = 0; i < n; ++i) set(i, draw(static_cast<uint64_t>(i) + (stream << 40), sign));
  }
  float* floats(int64_t from = 0) { return wide.data() + shift + from; }
  Numbers numbers(int64_t from = 0) {
    if (half) return narrow.data() + shift + from;
    return floats(from);
  }
  ConstNumbers read(int64_t from = 0) {
    if (half) return narrow.data() + shift + from;
    return floats(from);
  }
  float get(int64_t i) const {
    const auto at = static_cast<size_t>(shift + i);
    return half ? from_bfloat16(narrow[at]) : wide[at];
  }
  void set(int64_t i, float x) {
    const auto at = static_cast<size_t>(shift + i);
    if (half) narrow[at] = to_bfloat16(x);
    else wide[at] = x;
  }
  bool canaries() const {
    for (int64_t i = -shift; i < count + shift + 16; ++i)
      if ((i < 0 || i >= count) && get(i) != kCanary) return false;
    return true;
  }
  bool same_bits(const Buffer& o) const {
    return std::equal(wide.begin(), wide.end(), o.wide.begin(), o.wide.end(),
                      [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }) &&
           narrow == o.narrow;
  }
};

struct Setting {
  bool half_grad = false, half_weight = false;
  int64_t shift = 0;
  bool with_first = true, with_update = true;
};

struct Data {
  Setting setting;
  int64_t count;
  Buffer grad, weight, first, second, update;
  Data(int64_t n, const Setting& s)
      : setting(s),
        count(n),
        grad(n, s.half_grad, s.shift, 1, true),
        weight(n, s.half_weight, s.shift, 2, true),
        first(n, false, s.shift, 3, true),
        second(n, false, s.shift, 4, false),
        update(n, false, s.shift, 5, true) {}
  Entries entries(int64_t from, int64_t n) {
    return {.grad = grad.read(from),
            .weight = weight.numbers(from),
            .first = setting.with_first ? first.floats(from) : nullptr,
            .second = second.floats(from),
            .update = setting.with_update ? update.floats(from) : nullptr,
            .count = n};
  }
  bool same_bits(const Data& o) const {
    return weight.same_bits(o.weight) && first.same_bits(o.first) && second.same_bits(o.second) &&
           update.same_bits(o.update) && grad.same_bits(o.grad);
  }
  bool canaries() const {
    return grad.canaries() && weight.canaries() && first.canaries() && second.canaries() && update.canaries();
  }
};

/// One entry in float64.
struct Entry {
  double g, w, m, v, u = 0;
};

struct Case {
  std::string name;
  bool with_first;
  std::function<void(Isa, const WeightRule&, const Entries&)> run;
  std::function<void(Entry&)> direction;  // u from g, m, v
};

double mix(double a, double b, double weight) { return a + weight * (b - a); }
double sign_of(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

Case momentum_case(bool average, bool nesterov, bool sign) {
  const MomentumRule rule{.average = average, .decay = 0.95, .nesterov = nesterov};
  return {std::string(average ? "ema" : "heavy_ball") + (nesterov ? "_nesterov" : "") + (sign ? "_sign" : ""), true,
          [=](Isa isa, const WeightRule& w, const Entries& e) { step_momentum(isa, rule, sign, w, e); },
          [=](Entry& e) {
            e.m = average ? mix(e.m, e.g, 0.05) : 0.95 * e.m + e.g;
            if (average) e.u = nesterov ? mix(e.g, e.m, 0.95) : e.m;
            else e.u = nesterov ? e.g + 0.95 * e.m : e.m;
            if (sign) e.u = sign_of(e.u);
          }};
}

Case adam_case(const std::string& name, const AdamRule& rule, bool with_first) {
  return {name, with_first, [=](Isa isa, const WeightRule& w, const Entries& e) { step_adam(isa, rule, w, e); },
          [=](Entry& e) {
            if (with_first) e.m = mix(e.m, e.g, 1 - rule.beta1);
            e.v = rule.beta2 * e.v + (1 - rule.beta2) * e.g * e.g;
            const double m = with_first ? e.m : e.g;
            e.u = rule.after * (rule.before * m) / (rule.root_scale * std::sqrt(e.v) + rule.eps);
          }};
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool average : {true, false})
    for (const bool nesterov : {true, false})
      for (const bool sign : {true, false}) all.push_back(momentum_case(average, nesterov, sign));
  all.push_back({"gradient", false,
                 [](Isa isa, const WeightRule& w, const Entries& e) { step_momentum(isa, {}, false, w, e); },
                 [](Entry& e) { e.u = e.g; }});
  all.push_back(adam_case("adam_torch", {.before = 3.5, .root_scale = 11}, true));
  all.push_back(adam_case("adam_uncorrected_eps", {.beta1 = 0.3, .beta2 = 0.95, .eps = 0.01, .after = 0.4}, true));
  all.push_back(adam_case("adam_without_first", {.beta2 = 0.99}, false));
  for (const bool nesterov : {true, false}) {
    const RmspropRule rule{.alpha = 0.9, .eps = 1e-3, .momentum = 0.8, .nesterov = nesterov};
    all.push_back({nesterov ? "rmsprop_nesterov" : "rmsprop", true,
                   [=](Isa isa, const WeightRule& w, const Entries& e) { step_rmsprop(isa, rule, w, e); },
                   [=](Entry& e) {
                     e.v = 0.9 * e.v + 0.1 * e.g * e.g;
                     const double y = e.g / (std::sqrt(e.v) + 1e-3);
                     e.m = 0.8 * e.m + y;
                     e.u = nesterov ? y + 0.8 * e.m : e.m;
                   }});
  }
  all.push_back(
      {"adagrad", false,
       [](Isa isa, const WeightRule& w, const Entries& e) { step_adagrad(isa, {.eps = 1e-3, .after = 0.7}, w, e); },
       [](Entry& e) {
         e.v += e.g * e.g;
         e.u = 0.7 * e.g / (std::sqrt(e.v) + 1e-3);
       }});
  all.push_back(
      {"lion", true,
       [](Isa isa, const WeightRule& w, const Entries& e) { step_lion(isa, {.beta1 = 0.9, .beta2 = 0.4}, w, e); },
       [](Entry& e) {
         e.u = sign_of(0.9 * e.m + 0.1 * e.g);
         e.m = 0.4 * e.m + 0.6 * e.g;
       }});
  return all;
}

std::vector<std::pair<std::string, WeightRule>> weight_rules() {
  return {{"none", {.lr = 0.03}},
          {"before", {.lr = 0.03, .shrink = Shrink::before, .shrink_by = 0.1}},
          {"after", {.lr = 0.03, .scale = 1.7, .shrink = Shrink::after, .shrink_by = 0.1}},
          {"cautious", {.lr = 0.03, .shrink = Shrink::cautious, .shrink_by = 0.1}},
          {"coupled", {.lr = 0.03, .scale = 0.3, .coupled = 0.2}}};
}

void step_in_float64(const Case& c, const WeightRule& r, Entry& e) {
  e.g += r.coupled * e.w;
  c.direction(e);
  e.u *= r.scale;
  if (r.shrink == Shrink::before || (r.shrink == Shrink::cautious && e.u * e.w >= 0)) e.w -= r.shrink_by * e.w;
  e.w -= r.lr * e.u;
  if (r.shrink == Shrink::after) e.w -= r.shrink_by * e.w;
}

TEST(Elementwise, EveryKernelIsItsFormulaInFloat64) {
  for (const Isa isa : available_isas())
    for (const Case& c : cases())
      for (const auto& [decay, rule] : weight_rules())
        for (const bool half_grad : {false, true}) {
          Data data(1003, {.half_grad = half_grad, .shift = 1, .with_first = c.with_first});
          Data before = data;
          c.run(isa, rule, data.entries(0, data.count));
          for (int64_t i = 0; i < data.count; ++i) {
            Entry e{before.grad.get(i), before.weight.get(i), before.first.get(i), before.second.get(i)};
            step_in_float64(c, rule, e);
            const std::string where =
                c.name + " " + decay + " " + std::string(enum_name(isa)) + " at " + std::to_string(i);
            ASSERT_NEAR(data.update.get(i), e.u, 2e-6 * (1 + std::abs(e.u))) << where;
            ASSERT_NEAR(data.weight.get(i), e.w, 1e-6) << where;
            ASSERT_NEAR(data.first.get(i), e.m, 1e-6 * (1 + std::abs(e.m))) << where;
            ASSERT_NEAR(data.second.get(i), e.v, 1e-6 * (1 + e.v)) << where;
          }
        }
}

TEST(Elementwise, EveryInstructionSetAndEveryCutGivesTheSameBits) {
  for (const Case& c : cases())
    for (const auto& [decay, rule] : weight_rules())
      for (const Setting base :
           {Setting{}, Setting{.half_grad = true, .half_weight = true}, Setting{.half_weight = true}})
        for (const int64_t n : kLengths) {
          Setting setting = base;
          setting.with_first = c.with_first;
          setting.shift = 1 + n % 3;
          Data expected(n, setting);
          c.run(Isa::portable, rule, expected.entries(0, n));
          for (const Isa isa : available_isas()) {
            const std::string where =
                c.name + " " + decay + " " + std::string(enum_name(isa)) + " of " + std::to_string(n);
            Data whole(n, setting), cut(n, setting), unseen(n, setting);
            c.run(isa, rule, whole.entries(0, n));
            ASSERT_TRUE(whole.same_bits(expected)) << where;
            ASSERT_TRUE(whole.canaries()) << where;
            for (int64_t from = 0; from < n; from += 29)
              c.run(isa, rule, cut.entries(from, std::min<int64_t>(29, n - from)));
            ASSERT_TRUE(cut.same_bits(expected)) << where << ", in pieces";
            unseen.setting.with_update = false;
            c.run(isa, rule, unseen.entries(0, n));
            ASSERT_TRUE(unseen.weight.same_bits(expected.weight)) << where << ", nobody watches";
          }
        }
}

TEST(Elementwise, ALongTensorToo) {
  const int64_t n = 1000003;
  Data expected(n, {});
  step_adam(Isa::portable, {}, {.lr = 0.01}, expected.entries(0, n));
  for (const Isa isa : available_isas()) {
    Data data(n, {});
    step_adam(isa, {}, {.lr = 0.01}, data.entries(0, n));
    EXPECT_TRUE(data.same_bits(expected)) << enum_name(isa);
    EXPECT_TRUE(data.canaries()) << enum_name(isa);
  }
}

TEST(Elementwise, NaNSurfacesWhereItIsAndOnlyThere) {
  for (const Isa isa : available_isas())
    for (const Case& c : cases())
      for (const bool half : {false, true})
        for (const int64_t at : {0, 20, 36}) {
          Data data(37, {.half_grad = half, .half_weight = half, .with_first = c.with_first});
          data.grad.set(at, std::numeric_limits<float>::quiet_NaN());
          c.run(isa, {.lr = 0.1, .shrink = Shrink::before, .shrink_by = 0.01}, data.entries(0, 37));
          for (int64_t i = 0; i < 37; ++i) {
            EXPECT_EQ(std::isnan(data.update.get(i)), i == at) << c.name << " " << enum_name(isa) << " " << i;
            EXPECT_EQ(std::isnan(data.weight.get(i)), i == at) << c.name << " " << enum_name(isa) << " " << i;
          }
        }
}

TEST(Elementwise, InfinitySurfacesUnlessItsSignIsTaken) {
  for (const Isa isa : available_isas())
    for (const Case& c : cases()) {
      Data data(37, {.with_first = c.with_first});
      data.grad.set(5, std::numeric_limits<float>::infinity());
      c.run(isa, {.lr = 0.1}, data.entries(0, 37));
      const bool takes_sign = c.name.ends_with("sign") || c.name == "lion";
      const float u = data.update.get(5);
      EXPECT_TRUE(!std::isfinite(u) || (takes_sign && u == 1)) << c.name << " " << u;  // inf - inf under a sign is NaN
      EXPECT_EQ(std::isfinite(data.weight.get(5)), std::isfinite(u)) << c.name;
    }
}

TEST(Elementwise, SignOfZeroIsZero) {
  for (const Isa isa : available_isas())
    for (const float zero : {0.0f, -0.0f}) {
      Data data(19, {});
      for (int64_t i = 0; i < 19; ++i) data.grad.set(i, zero), data.first.set(i, zero);
      step_lion(isa, {}, {.lr = 0.1}, data.entries(0, 19));
      for (int64_t i = 0; i < 19; ++i) EXPECT_EQ(data.update.get(i), 0) << enum_name(isa);
    }
}

TEST(Elementwise, CautiousDecayTakesHoldWhereTheUpdateIsZero) {
  for (const Isa isa : available_isas()) {
    Data data(19, {}), before = data;
    for (int64_t i = 0; i < 19; ++i) data.grad.set(i, 0);
    apply_update(isa, {.lr = 0.1, .shrink = Shrink::cautious, .shrink_by = 0.5}, data.grad.read(),
                 data.weight.numbers(), 19);
    for (int64_t i = 0; i < 19; ++i) EXPECT_EQ(data.weight.get(i), before.weight.get(i) / 2) << enum_name(isa);
  }
}

// --- momentum_into ---

struct Front {
  Buffer grad, momentum, x;
  double squares = 0;
  Front(int64_t n, bool half_grad, bool half_x, int64_t shift)
      : grad(n, half_grad, shift, 1, true), momentum(n, false, shift, 3, true), x(n, half_x, shift, 5, true) {}
  void run(Isa isa, const MomentumRule& rule, int64_t from, int64_t n) {
    squares += momentum_into(isa, rule, grad.read(from), momentum.floats(from), x.numbers(from), n);
  }
};

TEST(MomentumInto, IsTheFormulaAndTheSumOfTheSquaresOfWhatWasWritten) {
  for (const Isa isa : available_isas())
    for (const bool average : {true, false})
      for (const bool nesterov : {true, false})
        for (const bool half_x : {false, true})
          for (const int64_t n : kLengths) {
            Front f(n, half_x, half_x, 2), before = f;
            f.run(isa, {.average = average, .decay = 0.95, .nesterov = nesterov}, 0, n);
            const Case formula = momentum_case(average, nesterov, false);
            double squares = 0;
            for (int64_t i = 0; i < n; ++i) {
              Entry e{before.grad.get(i), 0, before.momentum.get(i), 0};
              formula.direction(e);
              ASSERT_NEAR(f.momentum.get(i), e.m, 1e-6 * (1 + std::abs(e.m)));
              ASSERT_NEAR(f.x.get(i), e.u, (half_x ? 0x1p-8 : 1e-6) * (1e-6 + std::abs(e.u)) + 1e-6) << formula.name;
              squares += static_cast<double>(f.x.get(i)) * f.x.get(i);
            }
            ASSERT_NEAR(f.squares, squares, 1e-13 * squares);
            ASSERT_TRUE(f.x.canaries() && f.momentum.canaries());
          }
}

TEST(MomentumInto, TheSameBitsForEveryInstructionSetAndForPieces) {
  for (const bool half : {false, true})
    for (const int64_t shift : {0, 1})
      for (const int64_t n : {int64_t{1000}, 3 * kElementwisePiece + 1003}) {
        Front expected(n, half, half, shift);
        expected.run(Isa::portable, {}, 0, n);
        for (const Isa isa : available_isas()) {
          Front whole(n, half, half, shift), pieces(n, half, half, shift);
          whole.run(isa, {}, 0, n);
          for (int64_t from = 0; from < n; from += kElementwisePiece)
            pieces.run(isa, {}, from, std::min(kElementwisePiece, n - from));
          for (const Front* f : {&whole, &pieces}) {
            EXPECT_EQ(f->squares, expected.squares) << enum_name(isa);
            EXPECT_TRUE(f->x.same_bits(expected.x) && f->momentum.same_bits(expected.momentum)) << enum_name(isa);
          }
        }
      }
}

TEST(MomentumInto, WhatIsWrittenPastTheCachesIsTheSame) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const Isa isa : available_isas()) {
      const int64_t n = (int64_t{1} << (dtype == at::kFloat ? 23 : 24)) + 37;  // 32 MiB
      const at::Tensor g = at::linspace(-2, 3, n), m = at::linspace(1, -1, n), x = at::empty({n}, dtype);
      const at::Tensor m2 = m.clone(), y = at::empty({n + 1}, dtype).narrow(0, 1, n);  // not aligned: by the caches
      const auto numbers = [](const at::Tensor& t) -> Numbers {
        if (t.scalar_type() == at::kFloat) return t.mutable_data_ptr<float>();
        return reinterpret_cast<uint16_t*>(t.mutable_data_ptr<at::BFloat16>());
      };
      const double a = momentum_into(isa, {}, g.const_data_ptr<float>(), m.mutable_data_ptr<float>(), numbers(x), n);
      const double b = momentum_into(isa, {}, g.const_data_ptr<float>(), m2.mutable_data_ptr<float>(), numbers(y), n);
      EXPECT_EQ(a, b);
      EXPECT_TRUE(at::equal(x, y)) << enum_name(isa);
      EXPECT_TRUE(at::equal(m, m2)) << enum_name(isa);
    }
}

TEST(MomentumInto, NaNAndInfinityAreInTheSum) {
  for (const Isa isa : available_isas())
    for (const bool half : {false, true})
      for (const int64_t at : {0, 20, 36}) {
        Front f(37, half, half, 0);
        f.grad.set(at, std::numeric_limits<float>::quiet_NaN());
        f.run(isa, {}, 0, 37);
        EXPECT_TRUE(std::isnan(f.squares));
        EXPECT_TRUE(std::isnan(f.x.get(at)));
        Front g(37, half, half, 0);
        g.grad.set(at, std::numeric_limits<float>::infinity());
        g.run(isa, {}, 0, 37);
        EXPECT_FALSE(std::isfinite(g.squares));
      }
}

TEST(MomentumInto, TinyAndHugeSquaresAreCounted) {
  for (const Isa isa : available_isas())
    for (const float size : {1e-30f, 1e30f}) {
      Front f(100, false, false, 0);
      for (int64_t i = 0; i < 100; ++i) f.grad.set(i, size), f.momentum.set(i, size);
      f.run(isa, {}, 0, 100);
      EXPECT_NEAR(f.squares / (100.0 * size * size), 1, 1e-6);
    }
}

// --- bfloat16 ---

TEST(Bfloat16, RoundsAsTorchDoes) {
  std::vector<float> hard;
  for (const uint32_t upper : {0u, 1u, 0x3f80u, 0x3f81u, 0x7f7fu, 0x0080u, 0x007fu, 0x4049u})
    for (const uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      for (const uint32_t sign : {0u, 0x80000000u}) hard.push_back(std::bit_cast<float>(sign | upper << 16 | lower));
  hard.push_back(std::numeric_limits<float>::infinity());
  hard.push_back(-std::numeric_limits<float>::infinity());
  const auto n = static_cast<int64_t>(hard.size());
  const at::Tensor expected = at::from_blob(hard.data(), {n}, at::kFloat).to(at::kBFloat16);
  for (const Isa isa : available_isas()) {
    std::vector<float> zeros(hard.size());
    std::vector<uint16_t> x(hard.size());
    momentum_into(isa, {.average = false, .decay = 0, .nesterov = false}, hard.data(), zeros.data(), x.data(), n);
    const auto* const bits = reinterpret_cast<const uint16_t*>(expected.const_data_ptr<at::BFloat16>());
    for (int64_t i = 0; i < n; ++i)
      EXPECT_EQ(x[static_cast<size_t>(i)] & 0x7fff, bits[i] & 0x7fff)  // 0 * 0 + -0 is 0
          << enum_name(isa) << " " << hard[static_cast<size_t>(i)];
  }
}

/// The tensor operations of Decay and Retraction::move on a bfloat16 W.
TEST(Bfloat16, AWeightIsRoundedWhereTheTensorOperationsRound) {
  const double lr = 0.7123, by = 0.00777;  // a rate that shows how it is rounded
  for (const Isa isa : available_isas())
    for (const bool half_update : {false, true}) {
      Data data(4096, {.half_grad = half_update, .half_weight = true});
      at::Tensor w = at::empty({data.count}), u = at::empty({data.count});
      for (int64_t i = 0; i < data.count; ++i) {
        w.mutable_data_ptr<float>()[i] = data.weight.get(i);
        u.mutable_data_ptr<float>()[i] = data.grad.get(i);
      }
      w = w.to(at::kBFloat16);
      apply_update(isa, {.lr = lr, .scale = 0.7, .shrink = Shrink::before, .shrink_by = by}, data.grad.read(),
                   data.weight.numbers(), data.count);
      w.mul_(at::native::wrapped_scalar_tensor(1 - by)).add_(u.mul(0.7).to(at::kBFloat16), -lr);
      int different = 0;
      const at::Tensor expected = w.to(at::kFloat);
      for (int64_t i = 0; i < data.count; ++i) {
        const float want = expected.const_data_ptr<float>()[i];
        different += data.weight.get(i) != want;
        EXPECT_NEAR(data.weight.get(i), want, 0x1p-7 * std::abs(want));
      }
      EXPECT_LE(different, 4) << enum_name(isa);  // 0 where torch multiplies and adds at once
    }
}

}  // namespace
}  // namespace schatten
