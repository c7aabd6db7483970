// Newton-Schulz on blocks: the engines `triangle` and `gram`.
#include <ATen/Parallel.h>
#include <schatten/linalg/polar.h>

#include <algorithm>
#include <utility>

namespace schatten {

namespace {

using Row = std::array<double, 3>;

struct Iteration {
  const BlockKernels& kernels;
  const std::vector<Row>& steps;
  const std::vector<int64_t>& restarts;
  int64_t n, m;
  const Plain& to;
  int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  Scratch scratch{};

  void run(const Product& p) const {
    if (threads == 1) return multiply(kernels, p);
    at::parallel_for(0, threads, 1, [&](int64_t from, int64_t end) {
      for (int64_t part = from; part < end; ++part) multiply(kernels, p, static_cast<int>(part), threads);
    });
  }
  Tiled square() { return take_symmetric(scratch, kernels, n); }
  Tiled wide() { return take_tiled(scratch, kernels, n, m); }

  void gram_of(const Tiled& x, const Tiled& to_gram) const {
    run({.a = x, .b = x, .transposed = true, .symmetric = true, .tiled = &to_gram});
  }
  /// alpha A B + beta S for commuting symmetric A, B, S.
  void commuting(const Tiled& a, const Tiled& b, double alpha, double beta, const Tiled& s, const Tiled& result) const {
    run({.a = a,
         .b = b,
         .symmetric = true,
         .alpha = static_cast<float>(alpha),
         .beta = static_cast<float>(beta),
         .s = &s,
         .tiled = &result});
  }

  void triangle(Tiled x) {
    Tiled next = wide(), a = square(), b = square();
    for (size_t t = 0; t < steps.size(); ++t) {
      const bool last = t + 1 == steps.size();
      gram_of(x, a);
      commuting(a, a, steps[t][2], steps[t][1], a, b);
      run({.a = b,
           .b = x,
           .beta = static_cast<float>(steps[t][0]),
           .s = &x,
           .tiled = last ? nullptr : &next,
           .plain = last ? &to : nullptr});
      std::swap(x, next);
    }
  }

  bool restarts_before(size_t t) const {
    return std::find(restarts.begin(), restarts.end(), static_cast<int64_t>(t)) != restarts.end();
  }

  void gram(Tiled x) {
    Tiled next = restarts.empty() ? x : wide();
    Tiled r = square(), z = square(), rz = square(), q = square(), spare = square();
    bool identity = true;
    gram_of(x, r);
    for (size_t t = 0; t < steps.size(); ++t) {
      if (restarts_before(t)) {
        run({.a = q, .b = x, .tiled = &next});
        std::swap(x, next);
        gram_of(x, r);
        identity = true;
      }
      const auto [a, b, c] = steps[t];
      commuting(r, r, c, b, r, z);
      if (identity) {
        add_identity(kernels, z, static_cast<float>(a), q);
      } else {
        commuting(q, z, 1, a, q, spare);
        std::swap(q, spare);
      }
      identity = false;
      if (t + 1 == steps.size() || restarts_before(t + 1)) continue;
      commuting(r, z, 1, a, r, rz);
      commuting(z, rz, 1, a, rz, spare);
      std::swap(r, spare);
    }
    run({.a = q, .b = x, .plain = &to});
  }
};

}  // namespace

void newton_schulz_into(const PolarPlan& plan, const NewtonSchulzOptions& o, Isa isa, const Plain& from, double norm,
                        int64_t rows, int64_t cols, const Plain& to) {
  const bool tall = rows > cols;
  const auto turned = [&](Plain p) {
    if (tall) std::swap(p.row_stride, p.col_stride);
    return p;
  };
  const Plain in = turned(from), out = turned(to);
  const double bound = norm * o.schedule.norm_margin;
  const double divisor = o.eps_mode == EpsMode::add ? bound + o.eps : std::max(bound, o.eps);
  Iteration iteration{*block_kernels(isa, plan.arithmetic),
                      o.schedule.coefficients,
                      plan.restarts,
                      std::min(rows, cols),
                      std::max(rows, cols),
                      out};
  const Tiled x = iteration.wide();
  import_matrix(iteration.kernels, in, static_cast<float>(divisor == 0 ? 1 : 1 / divisor), x);
  if (plan.iteration == PolarIteration::gram) iteration.gram(x);
  else iteration.triangle(x);
}

}  // namespace schatten
