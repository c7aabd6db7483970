#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/dion.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

int64_t rank_of(double rank, const Bucket& b) {
  const int64_t smaller = std::min(b.rows, b.cols);
  if (rank == 0) return smaller;
  if (rank < 1)
    return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(rank * static_cast<double>(smaller))), 1, smaller);
  if (rank > static_cast<double>(smaller))
    fail_usage({"low_rank_polar", "rank up to " + std::to_string(smaller) + " for '" + b.parameter->name + "'",
                to_json(Value(rank)), "A share, rank = 0.25, fits every matrix."});
  return static_cast<int64_t>(rank);
}

/// 1 where the matrix has a nonzero entry (or a NaN), else 0.
Tensor alive(const Tensor& m) { return m.abs().amax({-2, -1}, true).ne(0); }

struct LargestModel {
  OrthogonalizeLargest options;
  Stage polar;

  std::string name() const { return "orthogonalize_largest"; }
  Traits traits() const { return polar.traits(); }
  StateSpec state(const Bucket&) const { return {.name = name(), .slots = {{"momentum_buffer"}}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    s["momentum_buffer"].add_(u);
    const bool tall = u.size(-2) > u.size(-1);
    const Tensor buffer = s["momentum_buffer"], m = tall ? buffer.mT() : buffer;
    const Tensor rows = chosen(m).unsqueeze(-1).expand(shape_of_chosen(m));
    const Tensor picked = m.gather(-2, rows);
    State none;
    Tensor out = at::zeros_like(m, at::MemoryFormat::Contiguous);
    out.scatter_(-2, rows, polar.apply(picked, none, step));
    m.scatter_(-2, rows, picked * options.decay);
    return (tall ? out.mT() : out).contiguous();
  }
  int64_t count(int64_t rows) const {
    return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(options.fraction * static_cast<double>(rows))));
  }
  /// Indices [.., k] of the largest rows, in their order.
  Tensor chosen(const Tensor& m) const {
    const Tensor norms = at::linalg_vector_norm(m, 1, -1);
    const Tensor order = at::argsort(norms, /*stable=*/true, -1, /*descending=*/true);
    return std::get<0>(order.narrow(-1, 0, count(m.size(-2))).sort(-1));
  }
  std::vector<int64_t> shape_of_chosen(const Tensor& m) const {
    std::vector<int64_t> shape = m.sizes().vec();
    shape[shape.size() - 2] = count(m.size(-2));
    return shape;
  }
  std::string decided(const Bucket& b, Isa isa) const {
    Bucket picked = b;
    if (b.rows > 0) picked.rows = count(std::min(b.rows, b.cols)), picked.cols = std::max(b.rows, b.cols);
    return polar.decided(picked, isa);
  }
  Value to_value() const { return stage_value(name(), options); }
};

}  // namespace

Stage low_rank_polar(const LowRankPolar& o) {
  if (!(std::isfinite(o.rank) && o.rank >= 0) || (o.rank >= 1 && o.rank != std::floor(o.rank)))
    fail_usage({"low_rank_polar", "rank in (0, 1), a whole number, or 0 for all", to_json(Value(o.rank)), ""});
  check_share("low_rank_polar", "mu", o.mu);
  check_positive("low_rank_polar", "eps", o.eps);
  return o;
}

StateSpec LowRankPolar::state(const Bucket& b) const {
  const int64_t side = transpose && b.rows < b.cols ? b.rows : b.cols;
  return {.name = name(),
          .slots = {{.name = "momentum_buffer", .dtype = at_least_float32(b.dtype)},
                    {.name = "Q", .shape = {side, rank_of(rank, b)}, .dtype = at_least_float32(b.dtype)}}};
}

Tensor LowRankPolar::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor &buffer = s["momentum_buffer"], &q = s["Q"];
  buffer.add_(u.to(buffer.scalar_type()));
  if (step.step == 1) {
    const Tensor drawn = step.rng.of(name()).normal({q.size(-2), q.size(-1)}, q.scalar_type()).to(q.device());
    q.copy_(at::where(q.eq(0).all(), drawn, q));  // an input may have been put there
  }
  const bool turned = transpose && u.size(-2) < u.size(-1);
  const Tensor m = turned ? buffer.mT() : buffer, moves = alive(m);
  const Tensor p = std::get<0>(at::linalg_qr(at::matmul(m, q))), r = at::matmul(m.mT(), p);
  q.copy_(at::where(moves, r / (at::linalg_vector_norm(r, 2, -2, true) + eps), q));
  const Tensor update = at::matmul(p, q.mT()) * moves;
  if (m.dim() == 2) m.addmm_(p, r.mT(), 1, mu - 1);
  else m.sub_(at::matmul(p, r.mT()), 1 - mu);
  return (turned ? update.mT() : update).contiguous().to(u.scalar_type());
}

Stage orthogonalize_largest(const OrthogonalizeLargest& o) {
  if (!(o.fraction > 0 && o.fraction <= 1))
    fail_usage({"orthogonalize_largest", "fraction in (0, 1]", to_json(Value(o.fraction)), "0.25 is the authors'."});
  check_share("orthogonalize_largest", "decay", o.decay);
  return LargestModel{o, orthogonalize(o.polar)};
}

}  // namespace schatten
