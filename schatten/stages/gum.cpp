#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/gum.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

constexpr const char* kName = "in_random_subspace";

/// How many blocks of this model are at full rank; 0 where the parameter is drawn alone.
int64_t full_blocks_of(const InRandomSubspace& o, const ParameterInfo& p) {
  if (p.block < 0 || o.full_blocks == 0 || (o.full_blocks < 1 && p.blocks < 2)) return 0;
  if (o.full_blocks < 1) return std::max<int64_t>(1, static_cast<int64_t>(std::floor(o.full_blocks * p.blocks)));
  const auto count = static_cast<int64_t>(o.full_blocks);
  if (count >= p.blocks)
    fail_usage({kName, "full_blocks below the model's " + std::to_string(p.blocks) + " blocks", std::to_string(count),
                "A share (full_blocks = 0.25) fits every depth; 0 draws each parameter alone."});
  return count;
}

struct InRandomSubspaceModel {
  InRandomSubspace options;
  Stage inner;

  std::string name() const { return kName; }
  Traits traits() const {
    return Traits{.locality = Locality::matrix, .takes_vectors = false, .batches = false} | inner.traits();
  }
  /// The smaller side; left for square matrices, as in the paper.
  SubspaceShape shape(int64_t rows, int64_t cols) const {
    return subspace_shape(name(), options.rank, rows <= cols ? SubspaceType::left : SubspaceType::right, rows, cols);
  }
  // P and P P^T G in float32 at least: what is left of the large directions would be amplified.
  StateSpec branch_state(const Bucket& b, bool full) const {
    const SubspaceShape s = shape(b.rows, b.cols);
    StateSpec inside = full ? inner.state(b) : state_inside(inner, b, s);
    return with_shape(std::move(inside), b.rows, b.cols, true);
  }
  StateSpec state(const Bucket& b) const {
    const SubspaceShape s = shape(b.rows, b.cols);
    if (options.moments == AtRefresh::transport) check_transport(name(), state_inside(inner, b, s), s);
    const bool full = branch(*b.parameter, b.rows, b.cols, b.shared, 0).full;
    return {.name = name(), .slots = basis_slots(s, at_least_float32(b.dtype)), .children = {branch_state(b, full)}};
  }
  /// Where the subspace is the whole space nothing is left for the other branch.
  Branch branch(const ParameterInfo& p, int64_t rows, int64_t cols, const Rng& shared, int64_t period) const {
    const Branch drawn = drawn_branch(options, p, shared, period);
    return shape(rows, cols).rank == std::min(rows, cols) ? Branch{} : drawn;
  }
  void start_period(const Tensor& u, State& s, const Step& step, int64_t period) const;
  int64_t inner_step(const Tensor& u, const Step& step) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return bracket_value(name(), options, inner); }
  std::string decided(const Bucket& b, Isa isa) const {
    const std::string full = inner.decided(b, isa), small = decided_inside(inner, b, isa, shape(b.rows, b.cols));
    return full == small ? full : small + "; at full rank: " + full;
  }
  std::string noticed() const { return inner.noticed(); }
};

void InRandomSubspaceModel::start_period(const Tensor& u, State& s, const Step& step, int64_t period) const {
  const SubspaceShape sh = shape(u.size(-2), u.size(-1));
  const Bases before = refresh_bases(u.to(at_least_float32(u.scalar_type())), s, sh, options.refresh, step);
  const auto full_in = [&](int64_t k) { return branch(step.parameter, sh.rows, sh.cols, step.shared, k).full; };
  const bool full = full_in(period);
  const bool goes_on = options.moments != AtRefresh::reset && period > 0 && full_in(period - 1) == full;
  if (goes_on) {
    if (!full && options.moments == AtRefresh::transport) transport(s.child(0), before, bases_in(s, sh, step));
    return;
  }
  const Bucket bucket{.parameter = &step.parameter,
                      .rows = u.size(-2),
                      .cols = u.size(-1),
                      .dtype = u.scalar_type(),
                      .device = u.device(),
                      .shared = step.shared};
  s.child(0) = State(branch_state(bucket, full), bucket);
}

/// Steps since the moments started at 0, from 1.
int64_t InRandomSubspaceModel::inner_step(const Tensor& u, const Step& step) const {
  const auto full_in = [&](int64_t k) { return branch(step.parameter, u.size(-2), u.size(-1), step.shared, k).full; };
  const int64_t period = (step.step - 1) / options.period;
  int64_t first = period;
  if (options.moments != AtRefresh::reset)
    while (first > 0 && full_in(first - 1) == full_in(period)) --first;
  return step.step - first * options.period;
}

Tensor InRandomSubspaceModel::apply(const Tensor& u, State& s, const Step& step) const {
  const int64_t period = (step.step - 1) / options.period;
  if ((step.step - 1) % options.period == 0) start_period(u, s, step, period);
  const SubspaceShape sh = shape(u.size(-2), u.size(-1));
  const Bases bases = bases_in(s, sh, step);
  const auto [full, q] = branch(step.parameter, sh.rows, sh.cols, step.shared, period);
  const double weight = options.weights == BranchWeights::none ? 1 : 1 / (full ? q : 1 - q);
  const double before = options.weights == BranchWeights::pre ? weight : 1, after = weight / before;
  const auto enter = [&, full = full](const Tensor& g) {
    const Tensor x = g.to(at_least_float32(g.scalar_type()));
    return (full ? bases.outside(x) : bases.project(x)).mul_(before).to(g.scalar_type());
  };
  const ParameterInfo seen = full ? step.parameter : seen_inside(step.parameter, sh);
  const Tensor in = enter(u);
  Step inside = step_inside(step, seen, step.grad.is_same(u) ? in : enter(step.grad));
  inside.step = inner_step(u, step);
  const Tensor small = inner.apply(in, s.child(0), inside);
  if (!small.defined()) return small;
  const Tensor out = small.to(at_least_float32(u.scalar_type()));
  return (full ? bases.outside(out) : bases.back(out)).mul_(after).to(u.scalar_type());
}

void check_branches(const std::vector<int>& branches) {
  for (const int b : branches)
    if (b != 0 && b != 1) fail_usage({kName, "branches of 0 and 1", std::to_string(b), "1 is full rank."});
}

}  // namespace

Branch drawn_branch(const InRandomSubspace& o, const ParameterInfo& p, const Rng& shared, int64_t period) {
  const int64_t chosen = full_blocks_of(o, p);
  const double q = chosen ? static_cast<double>(chosen) / p.blocks : o.probability;
  if (period < static_cast<int64_t>(o.branches.size())) return {o.branches[static_cast<size_t>(period)] == 1, q};
  const Rng rng = shared.of(kName).at(period);
  if (!chosen) return {rng.at(p.index).uniform(0) < q, q};
  // The blocks with the smallest keys; every parameter finds the same ones.
  const auto key = [&](int block) { return rng.of("block").bits(static_cast<uint64_t>(block)); };
  int64_t ahead = 0;
  for (int b = 0; b < p.blocks; ++b) ahead += key(b) < key(p.block) || (key(b) == key(p.block) && b < p.block);
  return {ahead < chosen, q};
}

Stage in_random_subspace(const InRandomSubspace& o, Stage inner) {
  check_subspace(kName, o.rank, 1);
  if (o.period < 1) fail_usage({kName, "period >= 1", std::to_string(o.period), "200 is GaLore's gap."});
  if (!(o.probability > 0 && o.probability < 1))
    fail_usage({kName, "probability in (0, 1)", to_json(Value(o.probability)),
                "At 0 the update is GaLore's: recipe = \"galore\"; at 1 the leading directions would never be used."});
  check_non_negative(kName, "full_blocks", o.full_blocks);
  if (o.full_blocks >= 1 && o.full_blocks != std::floor(o.full_blocks))
    fail_usage({kName, "full_blocks to be a whole number, or a share below 1", to_json(Value(o.full_blocks)), ""});
  check_branches(o.branches);
  check_inside_without_probe(kName, inner);
  return InRandomSubspaceModel{o, std::move(inner)};
}

}  // namespace schatten
