// The matrix form of RationalPower: scale, Gram matrix, inverses, product; and deflation around it.
#include <ATen/ATen.h>
#include <schatten/core/rng.h>
#include <schatten/kernels/shifted_inverses.h>
#include <schatten/linalg/multiply.h>
#include <schatten/linalg/plain.h>
#include <schatten/linalg/spectral_power.h>
#include <schatten/linalg/svd_impl.h>
#include <schatten/linalg/symmetric_product_impl.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace schatten {

namespace {

/// The largest eigenvalue of a positive semidefinite R, a little low at worst: power iteration, times 1.02.
///
/// Let v be the start, c the cosine of its angle with the leading eigenvector. The growths g_i = |R v_i| / |v_i|,
/// v_{i+1} = R v_i, never fall (log |R^i v| is convex in i) and never exceed lambda_max, and
///   g_1 g_2 .. g_k = |R^k v| / |v| >= c lambda_max^k,   so that   c^(1/k) lambda_max <= g_k <= lambda_max:
/// at least .65 lambda_max for a typical c = n^(-1/2) at n = 1024, and nearly all of it where the top is isolated.
/// A low estimate does no harm: singular values reach t = sigma_max / estimate > 1 only, where q falls on, so that
/// f(t) <= t f(1), and f(t) / t^p <= t^(1-p) (1 + error) whatever t (p = 0: 1.03 at t = 1.1, 1.08 at 1.3): the largest
/// values come out a little long. The interval even begins lower, at l / t; a high estimate would shorten it.
double largest_eigenvalue(const Tensor& gram) {
  constexpr int kIterations = 8;
  // Irregular, or the leading eigenvector of an evenly built matrix (equal rows, zero column sums) is never met.
  const Tensor noise = Rng(0).of("power iteration").normal({gram.size(0)}, at::kFloat).to(gram.options());
  const Tensor diagonal = gram.diagonal().abs();
  Tensor v = diagonal.add(diagonal.mean()).mul(noise.mul(0.2).add(1));
  double estimate = 0;
  for (int i = 0; i < kIterations; ++i) {
    const double norm = at::linalg_vector_norm(v).item<double>();
    if (!(norm > 0) || !std::isfinite(norm)) return 0;
    v = at::mv(gram, v).div_(norm);
    estimate = at::linalg_vector_norm(v).item<double>();
  }
  return 1.02 * estimate;
}

/// times * U f(S) V^T of the matrix scale * x, whose entries are about 1 at most.
struct Input {
  Tensor x;  // wide: rows are the short side
  double scale = 1, times = 1;
};
struct Mapped {
  Tensor result;
  double sigma_max = 0;       // of scale * x
  std::vector<double> below;  // see InverseOutcome
};

class RationalMap {
 public:
  RationalMap(const RationalPower& power, const RationalOptions& options, RationalReport* report)
      : power_(power), options_(options), report_(report) {}

  /// None where no shift helps.
  std::optional<Mapped> operator()(const Input& in) const {
    const InverseKernels kernels = inverse_kernels(options_.isa, options_.products != Products::float32);
    const bool blocks = kernels.fine && in.x.scalar_type() == at::kFloat && in.x.is_cpu();
    return blocks ? by_blocks(in, kernels) : by_aten(in);
  }

 private:
  static Tensor square(Scratch& scratch, int64_t n) {
    return at::from_blob(scratch.take<float>(n * n), {n, n}, at::kFloat);
  }
  double factor(const Input& in, double sigma_max) const { return in.times * std::pow(sigma_max, power_.power - 1); }

  std::optional<Mapped> by_blocks(const Input& in, const InverseKernels& kernels) const {
    const BlockKernels& k = *kernels.coarse;
    const int64_t n = in.x.size(0);
    Scratch scratch;
    const Tiled tiles = take_tiled(scratch, k, n, in.x.size(1));
    import_matrix(k, plain(in.x), static_cast<float>(in.scale), tiles);
    const Tensor gram = square(scratch, n), q = square(scratch, n);
    const Plain gram_to = plain(gram);
    multiply(k, {.a = tiles, .b = tiles, .transposed = true, .symmetric = true, .plain = &gram_to});
    const double largest = largest_eigenvalue(gram);
    if (!(largest > 0)) return std::nullopt;
    InverseOutcome outcome =
        sum_shifted_inverses(options_.isa, kernels, gram.data_ptr<float>(), n, 1 / largest,
                             {power_.shifts, power_.weights, power_.constant}, q.data_ptr<float>());
    if (report_) report_->shift_raises += outcome.raises;
    if (!outcome.done) return std::nullopt;
    Mapped mapped{.sigma_max = std::sqrt(largest), .below = std::move(outcome.below)};
    const double times = factor(in, mapped.sigma_max);
    if (kernels.coarse == kernels.fine) {  // ATen's own product of float32 is the faster one
      mapped.result = at::mm(q.mul_(times * in.scale), in.x);
      return mapped;
    }
    const Tiled left = take_symmetric(scratch, k, n);
    import_matrix(k, plain(q), static_cast<float>(times), left);
    mapped.result = at::empty_like(in.x);
    const Plain to = plain(mapped.result);
    multiply(k, {.a = left, .b = tiles, .plain = &to});
    return mapped;
  }

  std::optional<Mapped> by_aten(const Input& in) const {
    const Tensor y = in.x * in.scale;
    Tensor gram = symmetric_product(y, y.mT());
    const double largest = largest_eigenvalue(gram);
    if (!(largest > 0)) return std::nullopt;
    gram.div_(largest);
    Mapped mapped{.sigma_max = std::sqrt(largest)};
    Tensor q = at::zeros_like(gram);
    q.diagonal().fill_(power_.constant);
    for (size_t i = 0; i < power_.shifts.size(); ++i)
      if (!add_inverse(q, gram, i, mapped.below)) return std::nullopt;
    mapped.result = at::mm(q.mul_(factor(in, mapped.sigma_max)), y);
    return mapped;
  }

  /// Weight times (R + s I)^-1, with s raised fourfold where Cholesky fails; false when that does not help either.
  bool add_inverse(Tensor& sum, const Tensor& gram, size_t pole, std::vector<double>& below) const {
    double shift = power_.shifts[pole];
    for (int attempt = 0; attempt < 4; ++attempt, shift *= 4) {
      Tensor shifted = gram.clone();
      shifted.diagonal().add_(shift);
      const auto [factor, info] = at::linalg_cholesky_ex(shifted);
      if (info.item<int>() == 0) {
        const Tensor inverse = at::cholesky_inverse(factor);
        below.push_back(shift * inverse.diagonal().sum().item<double>());
        sum.add_(inverse, power_.weights[pole]);
        return true;
      }
      if (report_ && attempt < 3) ++report_->shift_raises;
    }
    return false;
  }

  const RationalPower& power_;
  const RationalOptions& options_;
  RationalReport* report_;
};

// --- deflation ---

constexpr int64_t kGuards = 4;       // tracked beside those that are taken out
constexpr double kSettled = 0.9;     // mean squared cosine between the old span and the new directions
constexpr int kWarm = 3, kCold = 5;  // iterations at most
constexpr double kCut = 0.1;         // share of singular values below l that makes deflation worth it
constexpr double kUseful = 0.5;      // the last value taken out against the first

/// X = Q B + rest, rows of the rest orthogonal to those of B.
struct Split {
  Tensor basis;  // [n, tracked], the newest directions
  Tensor top;    // Q E S^p F^T
  Tensor rest;
  double largest = 0;
  int64_t removed = 0;
};

Tensor orthonormal(const Tensor& z) { return std::get<0>(at::linalg_qr(z)); }

Split split(const Tensor& y, const Tensor& start, bool cold, int64_t deflate, const RationalPower& rational) {
  Tensor v = start, b, values;
  for (int i = 0; i < (cold ? kCold : kWarm); ++i) {
    const Tensor q = orthonormal(at::mm(y, b.defined() ? b.mT() : at::mm(y.mT(), v)));
    b = at::mm(q.mT(), y);
    const Tensor wide_b = b.to(at::kDouble);
    const auto [squares, vectors] = at::linalg_eigh(at::mm(wide_b, wide_b.mT()));
    const Tensor turn = vectors.flip(1).to(y.scalar_type());
    values = squares.flip(0).clamp_min(0).sqrt().cpu();
    const Tensor next = at::mm(q, turn);
    b = at::mm(turn.mT(), b);
    const double kept = at::mm(v.mT(), next.narrow(1, 0, deflate)).square().sum().item<double>();
    v = next;
    if (kept > kSettled * static_cast<double>(deflate)) break;
  }
  const double* const sigma = values.data_ptr<double>();
  Split out{.basis = v, .largest = sigma[0]};
  // So much at most that what is left is not resolved below the rank floor of X.
  const double least = rank_floor(y.scalar_type(), y.size(0), y.size(1)) / rational.interval * sigma[0];
  while (out.removed < deflate && sigma[out.removed] > least) ++out.removed;
  if (out.removed == 0 || (out.removed == deflate && sigma[deflate - 1] > kUseful * sigma[0])) {
    out.removed = 0;
    return out;
  }
  const Tensor q = v.narrow(1, 0, out.removed), s = values.narrow(0, 0, out.removed).to(y.options()).unsqueeze(1);
  const Tensor f = b.narrow(0, 0, out.removed).div(s);
  Tensor rest = at::addmm(y, q, f.mul(s), 1, -1);
  out.rest = rest.addmm_(at::mm(rest, f.mT()), f, 1, -1);
  out.top = at::mm(q, f.mul(s.pow(rational.power)));
  return out;
}

/// How many singular values would lie below l sigma_max without deflation, from the counts below the shifts of the
/// deflated matrix, in whose units the same bound is a larger one: linear in the logarithm of the shift.
double count_below(const RationalPower& p, const std::vector<double>& below, double stretch) {
  const double at = std::log(p.shifts[0] * stretch * stretch);
  for (size_t i = 1; i < below.size(); ++i) {
    const double low = std::log(p.shifts[i - 1]), high = std::log(p.shifts[i]);
    if (at <= high) return below[i - 1] + (below[i] - below[i - 1]) * std::clamp((at - low) / (high - low), 0.0, 1.0);
  }
  return below.back();
}

class Deflating {
 public:
  Deflating(const RationalPower& power, const RationalMap& map, int64_t deflate, Tensor basis)
      : power_(power), map_(map), deflate_(deflate), basis_(std::move(basis)) {}

  std::optional<Mapped> operator()(const Input& in) const {
    const bool warm = basis_.defined() && basis_.any().item<bool>();
    if (warm) return apart(in, basis_.to(in.x.scalar_type()), false, std::nullopt);
    const auto plain = map_(in);
    if (!plain || plain->below[0] < kCut * static_cast<double>(in.x.size(0))) return plain;
    return apart(in, cold_start(in.x), true, plain);
  }

 private:
  Tensor cold_start(const Tensor& x) const {
    const int64_t k = tracked_directions(deflate_, x.size(0), x.size(1));
    return orthonormal(Rng(0).of("deflation").normal({x.size(0), k}, x.scalar_type()).to(x.device()));
  }

  /// `plain`: the result without deflation, where it is known.
  std::optional<Mapped> apart(const Input& in, const Tensor& start, bool cold, std::optional<Mapped> plain) const {
    const Tensor y = in.x * in.scale;
    const Split parts = split(y, start, cold, deflate_, power_);
    Tensor basis = basis_;
    if (basis.defined()) basis.copy_(parts.basis);
    const double enough = kCut * static_cast<double>(y.size(0));
    if (parts.removed == 0) {
      if (!plain) plain = map_(in);
      if (plain && plain->below[0] < 0.5 * enough && basis.defined()) basis.zero_();
      return plain;
    }
    // What is left may be rounding noise alone, which must not be raised.
    const double left = at::linalg_vector_norm(parts.rest).item<double>();
    if (left <= rank_floor(y.scalar_type(), y.size(0), y.size(1)) * parts.largest)
      return Mapped{.result = parts.top * in.times};
    auto mapped = map_({.x = parts.rest, .times = in.times});
    if (!mapped) return std::nullopt;
    const double below = count_below(power_, mapped->below, parts.largest / mapped->sigma_max);
    if (below - static_cast<double>(parts.removed) < 0.5 * enough && basis.defined()) basis.zero_();
    mapped->result.add_(parts.top, in.times);
    return mapped;
  }

  const RationalPower& power_;
  const RationalMap& map_;
  int64_t deflate_;
  Tensor basis_;
};

Tensor power_by_rational(const Tensor& x, const RationalPower& power, const RationalOptions& options,
                         const Tensor& basis, RationalReport* report) {
  // Largest entry first: squares of tiny or huge gradients would leave the range of float32.
  const double scale = largest_entry(x);
  if (!std::isfinite(scale)) return at::full_like(x, NAN);
  if (scale == 0) return at::zeros_like(x);
  const bool tall = x.size(0) > x.size(1);
  const bool extreme = scale < 0x1p-90 || scale > 0x1p90;  // whose reciprocal, or times 1 / l, may be out of range
  const Tensor& near = extreme ? x / scale : x;
  const Input in{.x = tall ? near.mT() : near, .scale = extreme ? 1 : 1 / scale, .times = std::pow(scale, power.power)};
  const RationalMap map(power, options, report);
  const int64_t tracked = tracked_directions(options.deflate, x.size(0), x.size(1));
  auto mapped = tracked > 0 ? Deflating(power, map, options.deflate, basis)(in) : map(in);
  if (!mapped) {
    if (report) ++report->eigh_fallbacks;
    return spectral_power_eigh(x, power.power);
  }
  return (tall ? mapped->result.mT() : mapped->result).contiguous();
}

}  // namespace

int64_t tracked_directions(int64_t deflate, int64_t rows, int64_t cols) {
  const int64_t side = std::min(rows, cols);
  return deflate > 0 && side >= 4 * (deflate + kGuards) ? deflate + kGuards : 0;
}

Tensor spectral_power_rational(const Tensor& x, const RationalPower& power, RationalReport* report,
                               const RationalOptions& options, const Tensor* basis) {
  const Tensor bases = basis ? basis->view({-1, basis->size(-2), basis->size(-1)}) : Tensor();
  return each_matrix(x, [&](const Tensor& m, int64_t i) {
    return power_by_rational(m.contiguous(), power, options, basis ? bases[i] : Tensor(), report);
  });
}

}  // namespace schatten
