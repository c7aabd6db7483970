#include <ATen/ATen.h>
#include <schatten/linalg/subspace.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/in_subspace.h>
#include <schatten/stages/registry.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace schatten {

void check_subspace(std::string_view who, double rank, int refresh_every) {
  const std::string self(who);
  check_positive(who, "rank", rank);
  if (rank >= 1 && rank != std::floor(rank))
    fail_usage({self, "rank to be a whole number, or a share below 1", to_json(Value(rank)), ""});
  if (refresh_every < 1)
    fail_usage({self, "refresh_every >= 1", std::to_string(refresh_every),
                "A basis is needed before the first step; a large number keeps it for ever."});
}

void check_inside(std::string_view who, const Stage& inner) {
  if (inner.traits().reads_param)
    fail_usage({std::string(who), "an inner stage that reads gradients only",
                "'" + to_json(inner.to_value()) + "', which reads W",
                "W is not projected: put that stage before or after the bracket."});
  if (inner.traits().probe == ProbeKind::hutchinson)
    fail_usage({std::string(who), "an inner stage that wants no Hutchinson probe", "'" + inner.name() + "'",
                "A Hessian's diagonal cannot be projected; Sophia's gauss_newton estimator can."});
}

void check_inside_without_probe(std::string_view who, const Stage& inner) {
  check_inside(who, inner);
  if (inner.traits().probe != ProbeKind::none)
    fail_usage({std::string(who), "an inner stage that wants no probe", "'" + inner.name() + "'",
                "in_subspace hands probes on."});
}

void check_one_side(std::string_view who, SubspaceType type) {
  if (type == SubspaceType::full)
    fail_usage(
        {std::string(who), "type std, reverse_std, left or right", "full", "One side has to keep its channels."});
}

SubspaceShape subspace_shape(std::string_view who, double rank, SubspaceType type, int64_t rows, int64_t cols) {
  const int64_t small = std::min(rows, cols);
  if (small == 0) return {};
  const auto wanted = static_cast<int64_t>(rank < 1 ? std::floor(rank * static_cast<double>(small)) : rank);
  const int64_t r = std::max<int64_t>(wanted, 1);
  if (r > small)
    fail_usage({std::string(who), "a rank of at most the smaller side, " + std::to_string(small), std::to_string(r),
                "A share (rank = 0.25) fits matrices of every size."});
  const bool tall = rows >= cols;
  const bool full = type == SubspaceType::full;
  const bool left =
      type == SubspaceType::left || (type == SubspaceType::std && !tall) || (type == SubspaceType::reverse_std && tall);
  return {.rows = rows, .cols = cols, .rank = r, .left = left || full, .right = !left || full};
}

Tensor Bases::project(const Tensor& g) const {
  Tensor r = left.defined() ? multiply(left.mT(), g, products, isa) : g;
  return right.defined() ? multiply(r, right, products, isa) : r;
}
Tensor Bases::back(const Tensor& r) const {
  Tensor g = left.defined() ? multiply(left, r, products, isa) : r;
  return right.defined() ? multiply(g, right.mT(), products, isa) : g;
}
Tensor Bases::outside(const Tensor& g) const { return g - back(project(g)); }

namespace {

const char* left_slot(const SubspaceShape& s) { return s.right ? "P_left" : "P"; }
const char* right_slot(const SubspaceShape& s) { return s.left ? "P_right" : "P"; }

void put_basis(Tensor& slot, const Tensor& fresh) { slot.copy_(align_columns(fresh.to(slot.scalar_type()), slot)); }

}  // namespace

std::vector<SlotSpec> basis_slots(const SubspaceShape& s, at::ScalarType dtype) {
  std::vector<SlotSpec> slots;
  if (s.left) slots.push_back({.name = left_slot(s), .shape = {s.rows, s.rank}, .dtype = dtype});
  if (s.right) slots.push_back({.name = right_slot(s), .shape = {s.cols, s.rank}, .dtype = dtype});
  return slots;
}

Bases bases_in(State& s, const SubspaceShape& shape, const Step& step, Products products) {
  Bases bases{.products = products, .isa = step.isa};
  if (shape.left) bases.left = s[left_slot(shape)];
  if (shape.right) bases.right = s[right_slot(shape)];
  return bases;
}

Bases refresh_bases(const Tensor& g, State& s, const SubspaceShape& shape, Leading how, const Step& step) {
  const Rng draws = step.rng.of("refresh").at(step.step);
  Bases now = bases_in(s, shape, step), before;
  if (shape.left) {
    before.left = now.left.clone();
    put_basis(now.left, top_left(g, shape.rank, how, draws, step.isa));
  }
  if (shape.right) {
    before.right = now.right.clone();
    put_basis(now.right, top_right(g, shape.rank, how, draws, step.isa));
  }
  return before;
}

void check_transport(std::string_view who, const StateSpec& inner, const SubspaceShape& shape) {
  for (const SlotSpec& s : inner.slots) {
    if (s.follows != Follows::rotation || c10::multiply_integers(s.shape) == 1) continue;
    const bool moves = s.shape == std::vector<int64_t>{shape.small_rows(), shape.small_cols()} &&
                       (!s.dtype || at::isFloatingType(*s.dtype));
    if (!moves)
      fail_usage({std::string(who), "moments = \"transport\" around a stage whose state can turn with the basis",
                  "'" + inner.name + "/" + s.name + "'", "Set moments = \"keep\" or \"reset\"."});
  }
  for (const StateSpec& child : inner.children) check_transport(who, child, shape);
}

void transport(State& inner, const Bases& before, const Bases& now) {
  const Tensor left = now.left.defined() ? at::mm(now.left.mT(), before.left) : Tensor();
  const Tensor right = now.right.defined() ? at::mm(before.right.mT(), now.right) : Tensor();
  inner.each([&](const std::string&, Tensor& slot, const SlotSpec& spec) {
    if (spec.follows != Follows::rotation || slot.dim() != 2 || slot.numel() == 1) return;
    Tensor moved = slot;
    if (left.defined()) moved = at::mm(left.to(slot.scalar_type()), moved);
    if (right.defined()) moved = at::mm(moved, right.to(slot.scalar_type()));
    slot.copy_(moved);
  });
}

ParameterInfo seen_inside(const ParameterInfo& parameter, const SubspaceShape& shape) {
  ParameterInfo inside = parameter;
  inside.shape = {shape.small_rows(), shape.small_cols()};
  inside.unit_axis = -1;
  if (!shape.left) return inside;
  inside.projection = Projection::none;
  inside.heads = inside.kv_heads = 0;
  inside.fused_parts.clear();
  return inside;
}

Step step_inside(const Step& step, const ParameterInfo& parameter, const Tensor& grad) {
  return {.step = step.step,
          .lr = step.lr,
          .parameter = parameter,
          .grad = grad,
          .param = {},
          .rng = step.rng,
          .shared = step.shared,
          .rate = step.rate,
          .isa = step.isa};
}

StateSpec with_shape(StateSpec spec, int64_t rows, int64_t cols, bool resizes) {
  for (SlotSpec& slot : spec.slots) {
    if (slot.shape.empty()) slot.shape = {rows, cols};
    slot.resizes = slot.resizes || resizes;
  }
  for (StateSpec& child : spec.children) child = with_shape(std::move(child), rows, cols, resizes);
  return spec;
}

namespace {

Bucket bucket_inside(const Bucket& b, const ParameterInfo& seen, const SubspaceShape& shape) {
  Bucket small = b;
  small.parameter = &seen;
  small.rows = shape.small_rows();
  small.cols = shape.small_cols();
  return small;
}

}  // namespace

StateSpec state_inside(const Stage& inner, const Bucket& b, const SubspaceShape& shape) {
  const ParameterInfo seen = seen_inside(*b.parameter, shape);
  const Bucket small = bucket_inside(b, seen, shape);
  return with_shape(inner.state(small), small.rows, small.cols);
}

std::string decided_inside(const Stage& inner, const Bucket& b, Isa isa, const SubspaceShape& shape) {
  if (!b.parameter) return inner.decided(b, isa);
  const ParameterInfo seen = seen_inside(*b.parameter, shape);
  return inner.decided(bucket_inside(b, seen, shape), isa);
}

std::string with_products(Products products, const Bucket& b, Isa isa, const std::string& inside) {
  const std::string own = decided_products(products, b.dtype, isa);
  return own.empty() || inside.empty() ? own + inside : own + ", " + inside;
}

namespace {

struct InSubspaceModel {
  InSubspace options;
  Stage inner;
  std::optional<Stage> complement;

  std::string name() const { return "in_subspace"; }
  Traits traits() const {
    Traits all = Traits{.locality = Locality::matrix, .takes_vectors = false, .batches = false} | inner.traits();
    return complement ? all | complement->traits() : all;
  }
  SubspaceShape shape(int64_t rows, int64_t cols) const {
    return subspace_shape(name(), options.rank, options.type, rows, cols);
  }
  StateSpec state(const Bucket& b) const {
    const SubspaceShape s = shape(b.rows, b.cols);
    StateSpec spec{.name = name(), .slots = basis_slots(s, b.dtype), .children = {state_inside(inner, b, s)}};
    if (options.moments == AtRefresh::transport) check_transport(name(), spec.children[0], s);
    if (complement) spec.children.push_back(with_shape(complement->state(b), b.rows, b.cols));
    return spec;
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  void probe(const Tensor& h, State& s, const Step& step) const {
    const SubspaceShape sh = shape(h.size(-2), h.size(-1));
    const ParameterInfo seen = seen_inside(step.parameter, sh);
    const Tensor r = bases_in(s, sh, step).project(h);
    inner.probe(r, s.child(0), step_inside(step, seen, r));
  }
  void refresh(const Tensor& u, State& s, const SubspaceShape& sh, const Step& step) const {
    const Bases before = refresh_bases(u, s, sh, options.refresh, step);
    if (step.step == 1) return;
    if (options.moments == AtRefresh::transport) transport(s.child(0), before, bases_in(s, sh, step));
    if (options.moments == AtRefresh::reset) s.child(0).each([](const std::string&, Tensor& slot) { slot.zero_(); });
  }
  Value to_value() const { return bracket_value(name(), options, inner); }
  std::string decided(const Bucket& b, Isa isa) const {
    return with_products(options.products, b, isa, decided_inside(inner, b, isa, shape(b.rows, b.cols)));
  }
  std::string noticed() const { return inner.noticed(); }
};

Tensor InSubspaceModel::apply(const Tensor& u, State& s, const Step& step) const {
  const SubspaceShape sh = shape(u.size(-2), u.size(-1));
  const int64_t since = (step.step - 1) % options.refresh_every;
  if (since == 0) refresh(u, s, sh, step);
  const Bases bases = bases_in(s, sh, step, options.products);
  const ParameterInfo seen = seen_inside(step.parameter, sh);
  const bool own = step.grad.is_same(u);
  const Tensor r = bases.project(u);
  Step inside = step_inside(step, seen, own ? r : bases.project(step.grad));
  if (options.moments == AtRefresh::reset) inside.step = since + 1;
  const Tensor small = inner.apply(r, s.child(0), inside);
  if (!small.defined()) return small;
  if (options.scale != 1) small.mul_(options.scale);  // ours alone, and smaller than what comes back
  Tensor update = bases.back(small);
  if (!complement) return update;
  const Tensor rest = bases.outside(u);
  const Step outside = step_inside(step, step.parameter, own ? rest : bases.outside(step.grad));
  const Tensor more = complement->apply(rest, s.child(1), outside);
  return more.defined() ? update.add_(more) : update;
}

std::optional<Stage> made_complement(const Value& value) {
  if (value.is_string() && value.as_string() == "none") return std::nullopt;
  if (!value.is_table())
    fail_usage({"in_subspace", "complement: \"none\", or a stage or chain", to_json(value),
                "For example complement = { stage = \"sign\" }."});
  Stage stage = make_stage(value);
  check_inside("in_subspace", stage);
  return named("complement", std::move(stage));
}

}  // namespace

Stage in_subspace(const InSubspace& o, Stage inner) {
  check_subspace("in_subspace", o.rank, o.refresh_every);
  check_non_negative("in_subspace", "scale", o.scale);
  check_inside("in_subspace", inner);
  return InSubspaceModel{o, std::move(inner), made_complement(o.complement)};
}

}  // namespace schatten
