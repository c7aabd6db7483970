#include <ATen/ATen.h>
#include <schatten/linalg/subspace.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/in_eigenbasis.h>
#include <schatten/stages/in_subspace.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace schatten {

namespace {

using Dims = std::vector<int64_t>;
using Bases = std::vector<std::optional<Tensor>>;  // none: that dimension keeps its axes

/// Neighbouring dimensions taken together while their product stays within `most`.
Dims merged(const Dims& dims, int64_t most) {
  Dims all;
  int64_t run = 1;
  for (const int64_t d : dims) {
    if (run * d <= most) {
      run *= d;
      continue;
    }
    if (run > 1) all.push_back(run);
    else all.push_back(d);
    run = run > 1 ? d : 1;
  }
  if (run > 1 || all.empty()) all.push_back(run);
  return all;
}

/// The dimensions that bases belong to; `most`: those up to this length have one.
struct Axes {
  Dims dims;
  int64_t most = 0;
  bool turns(size_t i) const { return dims[i] <= most; }
};

/// Eigenvalues and QR know no half types.
Tensor working(const Tensor& t) { return t.to(at_least_float32(t.scalar_type())); }

/// How products are computed.
struct How {
  Products products;
  Isa isa;
  Tensor operator()(const Tensor& a, const Tensor& b) const { return multiply(a, b, products, isa); }
};

/// X_(i): dimension i as rows, all others as columns.
Tensor unfolded(const Tensor& x, int64_t i) { return x.movedim(i, 0).reshape({x.size(i), -1}); }
Tensor turned(const Tensor& x, int64_t i, const Tensor& by, How how) {
  if (x.dim() == 2) return i == 0 ? how(by, x) : how(x, by.mT());
  const Tensor rest_last = x.movedim(i, 0);
  return how(by, rest_last.reshape({x.size(i), -1})).view(rest_last.sizes()).movedim(0, i);
}

/// From the parameter's axes into the bases, and back.
Tensor into(Tensor x, const Bases& bases, How how) {
  if (bases.size() == 2 && bases[0] && bases[1]) return multiply(bases[0]->mT(), x, *bases[1], how.products, how.isa);
  for (size_t i = 0; i < bases.size(); ++i)
    if (bases[i]) x = turned(x, static_cast<int64_t>(i), bases[i]->mT(), how);
  return x;
}
Tensor back(Tensor x, const Bases& bases, How how) {
  if (bases.size() == 2 && bases[0] && bases[1]) return multiply(*bases[0], x, bases[1]->mT(), how.products, how.isa);
  for (size_t i = 0; i < bases.size(); ++i)
    if (bases[i]) x = turned(x, static_cast<int64_t>(i), *bases[i], how);
  return x;
}

/// One power iteration on the sorted columns; `order` says how they were sorted.
struct Refreshed {
  Tensor basis, order;
};
Refreshed refreshed(const Tensor& gg, const Tensor& q, How how) {
  const Tensor old = working(q), moved = how(working(gg), old);
  const Tensor order = (old * moved).sum(0).argsort(-1, true);
  return {std::get<0>(at::linalg_qr(moved.index_select(1, order))), order};
}

struct InEigenbasisModel {
  InEigenbasis options;
  Stage inner;

  std::string name() const { return "in_eigenbasis"; }
  Traits traits() const { return Traits{.locality = Locality::matrix, .batches = false} | inner.traits(); }
  /// The parameter's own dimensions, where the matrix is the whole of it.
  Axes axes(const ParameterInfo& p, int64_t rows, int64_t cols) const {
    const bool whole = p.rows() == rows && p.cols() == cols && !p.shape.empty();
    const Dims own = whole ? p.shape : Dims{rows, cols};
    if (own.size() == 1) return {own, options.precondition_1d ? options.max_dim : 0};
    return {options.merge_dims ? merged(own, options.max_dim) : own, options.max_dim};
  }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return bracket_value(name(), options, inner); }
  std::string decided(const Bucket& b, Isa isa) const {
    return with_products(options.products, b, isa, inner.decided(b, isa));
  }
  std::string noticed() const { return inner.noticed(); }

  static Bases bases(const Axes& axes, State& s);
  void gather(const Tensor& g, const Axes& axes, State& s, Isa isa) const;
  Tensor set_up(const Tensor& g, const Axes& axes, State& s, Isa isa) const;
  void turn(const Axes& axes, State& s, const Tensor& like, Isa isa) const;
};

std::string slot(const char* name, size_t i) { return name + std::to_string(i); }

/// A slot of second moments may have one number per row or column, too; what else it has, no sorting can follow.
bool can_follow(const SlotSpec& slot, const Dims& dims, const Bucket& b) {
  if (slot.shape.empty() || slot.follows == Follows::nothing) return true;
  if (c10::multiply_integers(slot.shape) == 1) return true;
  if (slot.resizes || slot.follows == Follows::rotation || slot.shape.size() != 2) return false;
  const int64_t rows = slot.shape[0], cols = slot.shape[1];
  if (rows == b.rows && cols == b.cols) return true;
  return dims[0] == b.rows && ((rows == b.rows && cols == 1) || (rows == 1 && cols == b.cols));
}

void check_slots(const StateSpec& spec, const Dims& dims, const Bucket& b) {
  for (const SlotSpec& s : spec.slots)
    if (!can_follow(s, dims, b))
      fail_usage({"in_eigenbasis", "an inner stage whose state can turn with the basis",
                  "'" + spec.name + "/" + s.name + "' of shape " + c10::str(s.shape) + " for '" +
                      (b.parameter ? b.parameter->name : "") + "'",
                  "Move that stage in front of the bracket or behind it."});
  for (const StateSpec& child : spec.children) check_slots(child, dims, b);
}

StateSpec InEigenbasisModel::state(const Bucket& b) const {
  const auto own = axes(*b.parameter, b.rows, b.cols);
  const at::ScalarType dtype = at_least_float32(b.dtype);
  StateSpec inside = inner.state(b);
  check_slots(inside, own.dims, b);
  StateSpec spec{.name = name(), .children = {std::move(inside)}};
  for (size_t i = 0; i < own.dims.size(); ++i) {
    if (!own.turns(i)) continue;
    for (const char* kind : {"GG", "Q"})
      spec.slots.push_back({.name = slot(kind, i), .shape = {own.dims[i], own.dims[i]}, .dtype = dtype});
  }
  return spec;
}

Bases InEigenbasisModel::bases(const Axes& axes, State& s) {
  Bases all(axes.dims.size());
  for (size_t i = 0; i < all.size(); ++i)
    if (axes.turns(i)) all[i] = s[slot("Q", i)];
  return all;
}

void InEigenbasisModel::gather(const Tensor& g, const Axes& axes, State& s, Isa isa) const {
  for (size_t i = 0; i < axes.dims.size(); ++i) {
    if (!axes.turns(i)) continue;
    const Tensor x = unfolded(g, static_cast<int64_t>(i));
    s[slot("GG", i)].lerp_(gram_of_rows(x, options.products, isa), 1 - options.beta);
  }
}

/// The first step only looks. LAPACK would throw on NaN, which has to surface in the weights instead.
Tensor InEigenbasisModel::set_up(const Tensor& g, const Axes& axes, State& s, Isa isa) const {
  if (!g.isfinite().all().item<bool>()) return at::full_like(g, std::numeric_limits<double>::quiet_NaN());
  gather(g, axes, s, isa);
  for (size_t i = 0; i < axes.dims.size(); ++i)
    if (axes.turns(i)) s[slot("Q", i)].copy_(eigenbasis_descending(s[slot("GG", i)]));
  return {};
}

/// A slot of second moments whose coordinates were sorted along every dimension; `like`: a tensor as the matrix is.
Tensor sorted(const Tensor& slot, const Axes& axes, const Bases& order, const Tensor& like) {
  Dims shape = axes.dims;  // one number per row: size 1 along the other dimensions, and the reverse
  if (slot.size(0) != like.size(0)) shape[0] = 1;
  if (slot.size(1) != like.size(1)) std::fill(shape.begin() + 1, shape.end(), 1);
  Tensor x = slot.view(shape);
  for (size_t i = 0; i < shape.size(); ++i)
    if (order[i] && shape[i] > 1) x = x.index_select(static_cast<int64_t>(i), *order[i]);
  return x.reshape(slot.sizes());
}

/// New bases, and the inner state moved into them.
void InEigenbasisModel::turn(const Axes& axes, State& s, const Tensor& like, Isa isa) const {
  const How how{options.products, isa};
  Bases before = bases(axes, s), order(before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    if (!before[i]) continue;
    before[i] = before[i]->clone();
    const Refreshed now = refreshed(s[slot("GG", i)], *before[i], how);
    s[slot("Q", i)].copy_(now.basis);
    order[i] = now.order;
  }
  const Bases after = bases(axes, s);
  s.child(0).each([&](const std::string&, Tensor& slot, const SlotSpec& spec) {
    if (slot.numel() == 1 && like.numel() != 1) return;  // a number, whatever the axes are
    if (spec.follows == Follows::nothing) return;
    if (spec.follows == Follows::permutation) slot.copy_(sorted(slot, axes, order, like));
    else slot.copy_(into(back(working(slot).view(axes.dims), before, how), after, how).reshape(slot.sizes()));
  });
}

Tensor InEigenbasisModel::apply(const Tensor& u, State& s, const Step& step) const {
  const Axes own = axes(step.parameter, u.size(-2), u.size(-1));
  const Tensor g = working(u).reshape(own.dims);
  const auto as_given = [&](const Tensor& x) { return x.reshape(u.sizes()).to(u.scalar_type()); };
  if (step.step == 1) {
    const Tensor wrong = set_up(g, own, s, step.isa);
    return wrong.defined() ? as_given(wrong) : wrong;
  }
  const Bases now = bases(own, s);
  const How how{options.products, step.isa};
  const Tensor projected = as_given(into(g, now, how));
  Step within = step;
  within.step = step.step - 1;
  within.grad = step.grad.is_same(u) ? projected : as_given(into(working(step.grad).reshape(own.dims), now, how));
  within.param = Tensor();
  Tensor update = inner.apply(projected, s.child(0), within);
  if (update.defined()) update = as_given(back(working(update).reshape(own.dims), now, how));
  gather(g, own, s, step.isa);
  if (within.step % options.every == 0) turn(own, s, u, step.isa);
  return update;
}

}  // namespace

Stage in_eigenbasis(const InEigenbasis& o, Stage inner) {
  check_share("in_eigenbasis", "beta", o.beta);
  if (o.every < 1) fail_usage({"in_eigenbasis", "every >= 1", std::to_string(o.every), "SOAP's is 10."});
  if (o.max_dim < 1) fail_usage({"in_eigenbasis", "max_dim >= 1", std::to_string(o.max_dim), "SOAP's is 10000."});
  if (inner.traits().reads_param)
    fail_usage({"in_eigenbasis", "an inner stage that reads gradients only", "'" + inner.name() + "', which reads W",
                "W is not turned into the basis: put that stage before or after the bracket."});
  if (inner.traits().probe != ProbeKind::none)
    fail_usage({"in_eigenbasis", "an inner stage that wants no probe", "'" + inner.name() + "'",
                "An estimate of the Hessian's diagonal belongs to the parameter's own axes."});
  return InEigenbasisModel{o, std::move(inner)};
}

Stage adam_correction(const AdamCorrection& o) {
  check_share("adam_correction", "beta1", o.beta1);
  check_share("adam_correction", "beta2", o.beta2);
  return o;
}

double AdamCorrection::factor(const Step& step) const {
  const auto t = static_cast<double>(step.step);
  return std::sqrt(1 - std::pow(beta2, t)) / (1 - std::pow(beta1, t));
}
Tensor AdamCorrection::apply(const Tensor& u, State&, const Step& step) const { return u.mul(factor(step)); }
Tensor AdamCorrection::apply_in_place(const Tensor& u, State&, const Step& step) const { return u.mul_(factor(step)); }

}  // namespace schatten
