#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/fira.h>

namespace schatten {

namespace {

struct SubspaceAndResidualModel {
  SubspaceAndResidual options;
  Stage inner, limiter;

  std::string name() const { return "subspace_and_residual"; }
  Traits traits() const {
    return Traits{.locality = Locality::matrix, .takes_vectors = false, .batches = false} | inner.traits();
  }
  SubspaceShape shape(int64_t rows, int64_t cols) const {
    return subspace_shape(name(), options.rank, options.type, rows, cols);
  }
  StateSpec state(const Bucket& b) const {
    const SubspaceShape s = shape(b.rows, b.cols);
    return {
        .name = name(), .slots = basis_slots(s, b.dtype), .children = {state_inside(inner, b, s), limiter.state(b)}};
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    const SubspaceShape sh = shape(u.size(-2), u.size(-1));
    if ((step.step - 1) % options.refresh_every == 0) refresh_bases(u, s, sh, options.refresh, step);
    const Bases bases = bases_in(s, sh, step, options.products);
    const ParameterInfo seen = seen_inside(step.parameter, sh);
    const Tensor r = bases.project(u);
    const Step inside = step_inside(step, seen, step.grad.is_same(u) ? r : bases.project(step.grad));
    const Tensor n = inner.apply(r, s.child(0), inside);
    if (!n.defined()) return n;
    Tensor rest = bases.back(r);  // ours to write over, as is all that follows
    at::sub_out(rest, u, rest, options.residual_released ? options.scale : 1);
    rest.mul_(channel_factor(n, r, sh, options.scale_type));
    return bases.back(n.mul_(options.scale)).add_(limiter.apply_in_place(rest, s.child(1), step));
  }
  Value to_value() const { return bracket_value(name(), options, inner); }
  std::string decided(const Bucket& b, Isa isa) const {
    return with_products(options.products, b, isa, decided_inside(inner, b, isa, shape(b.rows, b.cols)));
  }
  std::string noticed() const { return inner.noticed(); }
};

}  // namespace

Stage subspace_and_residual(const SubspaceAndResidual& o, Stage inner) {
  const char* who = "subspace_and_residual";
  check_subspace(who, o.rank, o.refresh_every);
  check_non_negative(who, "scale", o.scale);
  check_inside_without_probe(who, inner);
  check_one_side(who, o.type);
  return SubspaceAndResidualModel{o, std::move(inner),
                                  limit_norm_growth({.limit = o.limit, .released = o.limiter_released})};
}

}  // namespace schatten
