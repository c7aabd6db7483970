// Bases of matrices whose singular directions are known; apollo-torch's projections bit for bit.
#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/core/value.h>
#include <schatten/linalg/subspace.h>
#include <support/golden.h>

#include <iostream>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

double off_orthonormal(const Tensor& q) {
  const Tensor d = q.to(at::kDouble);
  return relative_error(at::mm(d.mT(), d), at::eye(d.size(1), at::kDouble));
}
double off_span(const Tensor& basis, const Tensor& expected) {
  const Tensor b = basis.to(at::kDouble);
  return relative_error(at::mm(b, b.mT()), at::mm(expected, expected.mT()));
}

constexpr Leading kWays[] = {Leading::svd, Leading::gram, Leading::randomized};

TEST(Subspace, SpansTheLeadingDirections) {
  for (const Leading how : {Leading::svd, Leading::gram})
    for (const Shape& s : kShapes) {
      const Known k = known(s.rows, s.cols, graded());
      const int64_t rank = std::min<int64_t>(5, std::min(s.rows, s.cols));
      const Tensor u = top_left(k.x(), 5, how), v = top_right(k.x(), 5, how);
      EXPECT_EQ(u.sizes(), (std::vector<int64_t>{s.rows, rank})) << s.name;
      EXPECT_EQ(v.sizes(), (std::vector<int64_t>{s.cols, rank})) << s.name;
      EXPECT_LT(off_orthonormal(u), 1e-13) << s.name;
      EXPECT_LT(off_orthonormal(v), 1e-13) << s.name;
      EXPECT_LT(off_span(u, k.u.narrow(1, 0, rank)), 1e-12) << s.name;
      EXPECT_LT(off_span(v, k.v.narrow(1, 0, rank)), 1e-12) << s.name;
      EXPECT_LT(off_span(top_left(k.x().to(at::kFloat), 5, how), k.u.narrow(1, 0, rank)), 2e-5) << s.name;
    }
}

/// Columns in the order of the singular values, largest first, not just any basis of the span.
TEST(Subspace, OrdersItsColumns) {
  const Known k = known(24, 40, graded());
  for (const Leading how : {Leading::svd, Leading::gram}) {
    const Tensor u = top_left(k.x(), 4, how), v = top_right(k.x(), 4, how);
    EXPECT_LT(relative_error(align_columns(u, k.u.narrow(1, 0, 4)), k.u.narrow(1, 0, 4)), 1e-11);
    EXPECT_LT(relative_error(align_columns(v, k.v.narrow(1, 0, 4)), k.v.narrow(1, 0, 4)), 1e-11);
  }
}

TEST(Subspace, HalfTypesGoThroughFloat32) {
  const Tensor x = known(24, 40, graded()).x().to(at::kBFloat16);
  for (const Leading how : kWays) {
    EXPECT_EQ(top_left(x, 4, how).scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(top_left(x, 4, how), top_left(x.to(at::kFloat), 4, how).to(at::kBFloat16)));
    EXPECT_TRUE(at::equal(top_right(x, 4, how), top_right(x.to(at::kFloat), 4, how).to(at::kBFloat16)));
  }
}

/// 1 - |X V|_F^2 / the largest that there is.
double energy_lost(const Tensor& x, const Tensor& v, const std::vector<double>& sigma, int64_t rank) {
  double most = 0;
  for (int64_t k = 0; k < rank; ++k) most += sigma[static_cast<size_t>(k)] * sigma[static_cast<size_t>(k)];
  return 1 - at::mm(x.to(at::kDouble), v.to(at::kDouble)).square().sum().item<double>() / most;
}

struct SpectrumCase {
  const char* name;
  Spectrum spectrum;
  double randomized;  // energy that may be lost
};
const std::vector<SpectrumCase>& spectra() {
  static const std::vector<SpectrumCase> cases{{"flat", flat(1), 1e-6},
                                               {"flat, rank n/8", flat(0.125), 1e-6},
                                               {"rank one", rank_one(), 1e-6},
                                               {"1/k", graded(), 1e-3},
                                               {"log to 1e-2", log_spaced(1e-2), 1e-3},
                                               {"log to 1e-6", log_spaced(1e-6), 1e-4},
                                               {"line", [](int64_t k, int64_t r) { return 1 - 0.9 * k / r; }, 3e-2}};
  return cases;
}

TEST(Subspace, KeepsTheEnergyWhateverTheSpectrum) {
  double worst[3] = {};
  for (const auto& [rows, cols] : {std::pair{192, 96}, {96, 192}, {96, 96}})
    for (const SpectrumCase& c : spectra())
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat})
        for (const Leading how : kWays) {
          const Known k = known(rows, cols, c.spectrum);
          const Tensor x = k.x().to(dtype), u = top_left(x, 24, how, Rng(1)), v = top_right(x, 24, how, Rng(1));
          const double rounding = dtype == at::kDouble ? 1e-12 : 2e-6;
          const double allowed = how == Leading::randomized ? c.randomized : rounding;
          for (const double lost : {energy_lost(x.mT(), u, k.sigma, 24), energy_lost(x, v, k.sigma, 24)}) {
            EXPECT_LT(lost, allowed) << c.name << " " << rows << " x " << cols << " " << enum_name(how) << " " << dtype;
            worst[static_cast<size_t>(how)] = std::max(worst[static_cast<size_t>(how)], lost);
          }
          EXPECT_LT(off_orthonormal(u), dtype == at::kDouble ? 1e-13 : 3e-6) << c.name << enum_name(how) << dtype;
          EXPECT_LT(off_orthonormal(v), dtype == at::kDouble ? 1e-13 : 3e-6) << c.name << enum_name(how) << dtype;
        }
  std::cout << "    largest share of energy lost: gram " << worst[1] << ", randomized " << worst[2] << "\n";
}

/// sin of the largest angle between two spans.
double largest_angle(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return at::linalg_matrix_norm(x - at::mm(y, at::mm(y.mT(), x)), 2).item<double>();
}

/// What squaring costs: eps sigma_1^2 / (gap of sigma^2) in place of eps sigma_1 / (gap of sigma).
TEST(Subspace, FromAGramMatrixIsTheSvdsUpToItsOwnRounding) {
  for (const double ratio : {1.0, 0.1, 0.01}) {  // sigma_r
    const Spectrum step = [ratio](int64_t k, int64_t) { return k == 0 ? 1.0 : k < 24 ? ratio : 0.8 * ratio; };
    const Known k = known(192, 96, step);
    const double own = 6e-8 / (ratio * ratio * (1 - 0.64));
    EXPECT_LT(largest_angle(top_right(k.x().to(at::kFloat), 24, Leading::gram), k.v.narrow(1, 0, 24)), 20 * own)
        << ratio;
    EXPECT_LT(largest_angle(top_right(k.x(), 24, Leading::gram), k.v.narrow(1, 0, 24)), 1e-9) << ratio;
  }
}

TEST(Subspace, OfRecordedMomentumKeepsTheEnergy) {
  double gram = 0, randomized = 0;
  int count = 0;
  for (const auto& path : golden_files("momentum"))
    for (const auto& [name, tensor] : load_safetensors(path).tensors) {
      if (tensor.dim() != 2 || tensor.size(0) < tensor.size(1)) continue;
      const int64_t rank = tensor.size(1) / 4;
      const Tensor x = tensor.to(at::kFloat);
      const auto sigma = decomposed(x).sigma;
      gram = std::max(gram, energy_lost(x, top_right(x, rank, Leading::gram), sigma, rank));
      randomized = std::max(randomized, energy_lost(x, top_right(x, rank, Leading::randomized), sigma, rank));
      ++count;
    }
  std::cout << "    " << count << " matrices, largest share lost: gram " << gram << ", randomized " << randomized
            << "\n";
  EXPECT_GT(count, 0);
  EXPECT_LT(gram, 2e-6);
  EXPECT_LT(randomized, 1e-2);
}

TEST(Subspace, OfTinyAndHugeMatricesIsThatOfTheMatrix) {
  const Known k = known(40, 24, graded());
  for (const double scale : {1e-30, 1e-12, 1.0, 1e12, 1e30})
    for (const Leading how : kWays)
      EXPECT_LT(energy_lost(k.x(), top_right(k.x().mul(scale).to(at::kFloat), 5, how), k.sigma, 5), 1e-3) << scale;
}

TEST(Subspace, RandomizedIsAFunctionOfItsDraws) {
  const Tensor x = gaussian({48, 64}, 3);
  const auto basis = [&](uint64_t seed) { return top_left(x, 6, Leading::randomized, Rng(seed)); };
  EXPECT_TRUE(at::equal(basis(1), basis(1)));
  EXPECT_GT(largest_angle(basis(1), basis(2)), 1e-3);
}

TEST(AlignColumns, FollowsTheReference) {
  const Tensor reference = orthonormal(9, 4, 3);
  const Tensor fresh = reference + 0.1 * gaussian({9, 4}, 4), signs = at::tensor({1.0, -1.0, -1.0, 1.0}, at::kDouble);
  EXPECT_TRUE(at::equal(align_columns(fresh * signs, reference), fresh));
  EXPECT_TRUE(at::equal(align_columns(fresh * signs, -reference), -fresh));
  const Tensor half = (fresh * signs).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(align_columns(half, reference.to(at::kBFloat16)), fresh.to(at::kBFloat16)));
}

TEST(AlignColumns, WithoutADirectionTheLargestEntryIsPositive) {
  const Tensor fresh = at::tensor({0.5, -3.0, 2.0, 1.0, 2.0, -0.5}, at::kDouble).view({3, 2});  // columns end at -0.5
  const Tensor orthogonal = at::tensor({4.0, 1.0, -1.0, 3.0, 0.0, 0.0}, at::kDouble).view({3, 2});
  EXPECT_EQ((fresh * orthogonal).sum(0).abs().max().item<double>(), 0);
  const Tensor expected = at::tensor({0.5, 3.0, 2.0, -1.0, 2.0, 0.5}, at::kDouble).view({3, 2});
  EXPECT_TRUE(at::equal(align_columns(fresh, orthogonal), expected));
  EXPECT_TRUE(at::equal(align_columns(fresh, Tensor()), expected));
  EXPECT_TRUE(at::equal(align_columns(-fresh, Tensor()), expected));
}

TEST(Projection, SeedsFollowEachOtherAsInApolloTorch) {
  EXPECT_EQ(next_seed(1), 505211975917066638);
  EXPECT_EQ(next_seed(505211975917066638), 7574884091489552460);
  EXPECT_EQ(next_seed(7574884091489552460), 430731051963529425);
  EXPECT_EQ(next_seed(2), 3402314949991714867);
}

/// torch's generator has one path below 16 entries and another from there on.
TEST(Projection, DrawsTheKnownNumbers) {
  const Tensor wide = gaussian_projection(1, 4, 8, at::kFloat) * std::sqrt(4);
  const double row[] = {-1.5256, -0.7502, -0.6540, -1.6095, -0.1002, -0.6092, -0.9798, -1.6091};
  for (int64_t i = 0; i < 8; ++i) EXPECT_NEAR(wide[0][i].item<double>(), row[i], 5.1e-5) << i;
  const Tensor small = gaussian_projection(1, 2, 3, at::kDouble) * std::sqrt(2);
  const double all[] = {0.6614, 0.2669, 0.0617, 0.6213, -0.4519, -0.1661};
  for (int64_t i = 0; i < 6; ++i) EXPECT_NEAR(small.view(-1)[i].item<double>(), all[i], 5.1e-5) << i;
}

/// "m/projector.next_seed.005" -> "m/".
std::vector<std::string> projected_parameters(const TensorFile& f) {
  std::vector<std::string> prefixes;
  for (const auto& [name, tensor] : f.tensors)
    if (name.ends_with("projector.next_seed.000")) prefixes.push_back(name.substr(0, name.size() - 23));
  return prefixes;
}

int64_t first_seed(const Value& hyper, const std::string& prefix) {
  const Value* one = hyper.find("first_seed");
  return one ? one->as_integer() : hyper.at("seeds").at(prefix.substr(0, prefix.size() - 1)).as_integer();
}

TEST(Projection, HasTheBitsOfApolloTorch) {
  int compared = 0;
  for (const auto& path : golden_files("optimizers")) {
    const auto metadata = load_safetensors_header(path).metadata;
    if (!metadata.contains("optimizer") || metadata.at("optimizer").find("APOLLO") == std::string::npos) continue;
    const TensorFile f = load_safetensors(path);
    for (const std::string& prefix : projected_parameters(f)) {
      int64_t seed = first_seed(parse_json(metadata.at("hyper")), prefix);
      for (const char* t : {"000", "005", "010"}) {
        const Tensor* p = f.find(prefix + "projector.P." + t);
        if (!p) continue;
        EXPECT_TRUE(at::equal(gaussian_projection(seed, p->size(0), p->size(1), p->scalar_type()), *p)) << path << t;
        seed = next_seed(seed);
        EXPECT_EQ(seed, f.at(prefix + "projector.next_seed." + t).item<int64_t>()) << path << t;
        ++compared;
      }
    }
  }
  std::cout << "    " << compared << " projections, largest error 0 of 0 allowed (bits)\n";
  EXPECT_GT(compared, 0);
}

TEST(Projection, IsNotMovedByTheGlobalGeneratorNorMovesIt) {
  at::manual_seed(4);
  const Tensor one = gaussian_projection(9, 5, 5, at::kFloat), next = at::randn({3});
  at::manual_seed(4);
  EXPECT_TRUE(at::equal(at::randn({3}), next));
  EXPECT_TRUE(at::equal(gaussian_projection(9, 5, 5, at::kFloat), one));
  EXPECT_TRUE(at::equal(gaussian_projection(9, 5, 5, at::kBFloat16), one.to(at::kBFloat16)));
}

TEST(Qr, HasOrthonormalColumnsOfTheSameSpan) {
  const Tensor x = gaussian({12, 5}, 2);
  EXPECT_EQ(qr_q(x).sizes(), x.sizes());
  EXPECT_LT(off_orthonormal(qr_q(x)), 1e-14);
  EXPECT_LT(off_span(qr_q(x), top_left(x, 5)), 1e-13);
  EXPECT_EQ(qr_q(x.mT()).sizes(), (std::vector<int64_t>{5, 5}));
  EXPECT_LT(off_orthonormal(qr_q(x.to(at::kFloat))), 1e-6);
}

/// A = V diag(lambda) V^T.
Tensor symmetric(const Known& k) { return at::mm(k.u * at::tensor(k.sigma, at::kDouble), k.u.mT()); }

TEST(SymmetricRoot, IsThePowerOfTheEigenvalues) {
  const Known k = known(16, 16, graded());
  const Tensor a = symmetric(k);
  for (const double p : {-0.5, -0.25, 0.5, 1.0}) {
    const Tensor expected = at::mm(k.u * at::tensor(k.sigma, at::kDouble).pow(p), k.u.mT());
    EXPECT_LT(relative_error(symmetric_root(a, p, 1e-12), expected), 1e-12) << p;
    EXPECT_LT(relative_error(symmetric_root(a.to(at::kFloat), p, 1e-12), expected), 2e-5) << p;
  }
  const Tensor root = symmetric_root(a, -0.25, 0);
  EXPECT_LT(relative_error(at::linalg_multi_dot({root, root, root, root, a}), at::eye(16, at::kDouble)), 1e-11);
}

/// Eigenvalues below eps, those made negative by rounding included, count as eps.
TEST(SymmetricRoot, HasAFloor) {
  const Tensor a = at::diag(at::tensor({4.0, 1e-9, 0.0, -1e-7}, at::kDouble));
  const Tensor expected = at::diag(at::tensor({0.5, 1e3, 1e3, 1e3}, at::kDouble));
  EXPECT_LT(relative_error(symmetric_root(a, -0.5, 1e-6), expected), 1e-14);
}

TEST(Eigenbasis, LargestFirst) {
  const Known k = known(16, 16, graded());
  const Tensor q = eigenbasis_descending(symmetric(k));
  EXPECT_LT(off_orthonormal(q), 1e-13);
  EXPECT_LT(relative_error(align_columns(q, k.u), k.u), 1e-12);
  const Tensor rotated = at::linalg_multi_dot({q.mT(), symmetric(k), q});
  EXPECT_LT(relative_error(rotated, at::diag(at::tensor(k.sigma, at::kDouble))), 1e-13);
  EXPECT_LT(off_orthonormal(eigenbasis_descending(at::zeros({6, 6}))), 1e-6);
}

TEST(Bases, LeaveTheirInputAlone) {
  const Tensor x = gaussian({8, 8}, 6).fill_diagonal_(0), before = x.clone();  // 0 + 1e-30 would show
  top_left(x, 3), top_right(x, 3), qr_q(x), symmetric_root(x, 0.5, 1), eigenbasis_descending(x), align_columns(x, -x);
  EXPECT_TRUE(at::equal(x, before));
}

TEST(Bases, OfNaNAreNaN) {
  Tensor x = gaussian({6, 6}, 7, at::kFloat);
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    x[2][3] = bad;
    for (const Tensor& q : {qr_q(x), symmetric_root(x, 0.5, 1), eigenbasis_descending(x)}) EXPECT_TRUE(all_nan(q));
    for (const Leading how : kWays) {
      EXPECT_TRUE(all_nan(top_left(x, 2, how)));
      EXPECT_TRUE(all_nan(top_right(x, 2, how)));
    }
    EXPECT_EQ(top_right(x, 2).sizes(), (std::vector<int64_t>{6, 2}));
  }
}

TEST(Bases, RefuseWhatCannotBe) {
  const Tensor x = gaussian({4, 6}, 8);
  EXPECT_THROW(top_left(x, 0), UsageError);
  EXPECT_THROW(top_right(gaussian({2, 4, 6}, 8), 2), UsageError);
  EXPECT_THROW(eigenbasis_descending(x), UsageError);
  EXPECT_THROW(symmetric_root(x, 0.5, 0), UsageError);
  EXPECT_THROW(symmetric_root(at::eye(3), 0.5, -1), UsageError);
  EXPECT_THROW(align_columns(x, x.mT()), UsageError);
  EXPECT_THROW(gaussian_projection(1, 0, 3, at::kFloat), UsageError);
}

}  // namespace
}  // namespace schatten::testing
