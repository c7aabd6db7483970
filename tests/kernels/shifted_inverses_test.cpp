// Sums of shifted inverses by every instruction set against float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/fields.h>
#include <schatten/core/rng.h>
#include <schatten/kernels/shifted_inverses.h>

#include <cmath>
#include <string>

namespace schatten {
namespace {

const ShiftedInverses kPoles{{1e-4, 3e-3, 0.2}, {.01, .08, .45}, .5};

struct Way {
  Isa isa;
  bool split;
  InverseKernels kernels;
  std::string name() const { return std::string(enum_name(isa)) + (split ? ", split" : ""); }
};
std::vector<Way> ways() {
  std::vector<Way> all;
  for (const Isa isa : available_isas())
    for (const bool split : {false, true})
      if (const InverseKernels k = inverse_kernels(isa, split); k.fine && (!split || k.coarse != k.fine))
        all.push_back({isa, split, k});
  return all;
}

/// X X^T with its largest eigenvalue 1, in float32.
Tensor gram(int64_t n, int64_t rank, int64_t draw = 0) {
  const Tensor x = Rng(5).at(draw).normal({n, rank}, at::kDouble), r = at::mm(x, x.mT());
  return (r / at::linalg_eigvalsh(r)[-1]).to(at::kFloat).contiguous();
}
Tensor exactly(const Tensor& r, double scale, const ShiftedInverses& f) {
  const Tensor one = at::eye(r.size(0), at::kDouble), wide = r.to(at::kDouble) * scale;
  Tensor q = one * f.constant;
  for (size_t i = 0; i < f.shifts.size(); ++i) q += f.weights[i] * at::linalg_inv(wide + f.shifts[i] * one);
  return q;
}
InverseOutcome run(const Way& way, const Tensor& r, double scale, const ShiftedInverses& f, Tensor& q) {
  q = at::full_like(r, NAN);
  return sum_shifted_inverses(way.isa, way.kernels, r.data_ptr<float>(), r.size(0), scale, f, q.data_ptr<float>());
}
double error(const Tensor& q, const Tensor& exact) { return ((q - exact).norm() / exact.norm()).item<double>(); }

TEST(ShiftedInverses, AreThoseOfFloat64) {
  for (const Way& way : ways())
    for (const int64_t n : {1, 5, 31, 32, 33, 64, 100, 300})
      for (const int64_t rank : {n, std::max<int64_t>(1, n / 3)}) {
        const Tensor r = gram(n, rank) * 3;
        Tensor q;
        const InverseOutcome outcome = run(way, r, 1 / 3.0, kPoles, q);
        ASSERT_TRUE(outcome.done) << way.name() << " " << n;
        EXPECT_EQ(outcome.raises, 0);
        EXPECT_LT(error(q, exactly(r, 1 / 3.0, kPoles)), 3e-4) << way.name() << " " << n << " of rank " << rank;
        EXPECT_TRUE(at::equal(q, q.mT())) << way.name() << " " << n;
      }
}

/// Coarse products would lose this shift in rounding.
TEST(ShiftedInverses, SmallShiftsHaveFineProducts) {
  const Tensor r = gram(256, 200);
  const ShiftedInverses small{{1.6e-5}, {1}, 0};
  for (const Way& way : ways()) {
    Tensor q;
    ASSERT_TRUE(run(way, r, 1, small, q).done) << way.name();
    EXPECT_LT(error(q, exactly(r, 1, small)), 3e-3) << way.name();
  }
}

TEST(ShiftedInverses, CountWhatLiesBelow) {
  const Tensor r = gram(100, 40), lambda = at::linalg_eigvalsh(r.to(at::kDouble));
  for (const Way& way : ways()) {
    Tensor q;
    const InverseOutcome outcome = run(way, r, 1, kPoles, q);
    ASSERT_EQ(outcome.below.size(), kPoles.shifts.size());
    for (size_t i = 0; i < kPoles.shifts.size(); ++i) {
      const double s = kPoles.shifts[i];
      EXPECT_NEAR(outcome.below[i], (s / (lambda + s)).sum().item<double>(), 0.01) << way.name() << " " << s;
    }
  }
}

TEST(ShiftedInverses, AFailedPivotRaisesTheShiftFourfold) {
  const Tensor r = gram(70, 70) - 0.01 * at::eye(70);  // eigenvalues down to about -0.01
  for (const Way& way : ways()) {
    Tensor q;
    const InverseOutcome outcome = run(way, r, 1, {{1e-3}, {1}, 0}, q);
    EXPECT_TRUE(outcome.done) << way.name();
    EXPECT_EQ(outcome.raises, 2) << way.name();  // 1e-3, 4e-3, 16e-3
    EXPECT_LT(error(q, exactly(r, 1, {{16e-3}, {1}, 0})), 1e-3) << way.name();
  }
}

TEST(ShiftedInverses, WhatNoShiftHelpsIsSaidAndEnds) {
  for (const Way& way : ways())
    for (const double bad : {-5.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
      Tensor r = gram(70, 70), q;
      r[66][66] = bad;
      const InverseOutcome outcome = run(way, r, 1, kPoles, q);
      EXPECT_FALSE(outcome.done) << way.name() << " " << bad;
      EXPECT_EQ(outcome.raises, 3) << way.name() << " " << bad;
    }
}

TEST(ShiftedInverses, NanOffTheDiagonalIsNoResult) {
  for (const Way& way : ways()) {
    Tensor r = gram(70, 70), q;
    r[3][66] = r[66][3] = NAN;
    EXPECT_FALSE(run(way, r, 1, kPoles, q).done) << way.name();
  }
}

TEST(ShiftedInverses, SameInputGivesSameBits) {
  const Tensor r = gram(130, 130);
  for (const Way& way : ways()) {
    Tensor a, other, b;
    run(way, r, 1, kPoles, a);
    run(way, gram(200, 200, 1), 1, kPoles, other);  // leaves other scratch behind
    run(way, r, 1, kPoles, b);
    EXPECT_TRUE(at::equal(a, b)) << way.name();
  }
}

}  // namespace
}  // namespace schatten
