#include <ATen/ATen.h>
#include <schatten/linalg/subspace.h>
#include <schatten/stages/apollo.h>
#include <schatten/stages/checks.h>

#include <cmath>

namespace schatten {

namespace {

struct ScaleChannelsLikeModel {
  ScaleChannelsLike options;
  Stage inner;

  bool random() const { return options.projection == ApolloProjection::random; }
  std::string name() const { return "scale_channels_like"; }
  Traits traits() const {
    return Traits{.locality = Locality::matrix, .takes_vectors = false, .batches = false} | inner.traits();
  }
  SubspaceShape shape(int64_t rows, int64_t cols) const {
    return subspace_shape(name(), options.rank, options.type, rows, cols);
  }
  StateSpec state(const Bucket& b) const {
    const SubspaceShape s = shape(b.rows, b.cols);
    StateSpec spec{.name = name(), .children = {state_inside(inner, b, s)}};
    if (!random() || options.keep_projection) spec.slots = basis_slots(s, b.dtype);
    if (random())
      spec.slots.push_back({.name = "seed", .shape = {1}, .dtype = at::kLong, .follows = Follows::permutation});
    return spec;
  }
  /// The projection in use at this step.
  Bases bases(const Tensor& u, State& s, const SubspaceShape& sh, const Step& step) const {
    const bool refresh = (step.step - 1) % options.refresh_every == 0;
    if (!random()) {
      if (refresh) refresh_bases(u, s, sh, options.refresh, step);
      return bases_in(s, sh, step, options.products);
    }
    Tensor& seed = s["seed"];
    if (step.step == 1) seed.fill_(options.seed ? options.seed : step.parameter.index + 1);
    else if (refresh) seed.fill_(next_seed(seed.item<int64_t>()));
    if (!options.keep_projection) return drawn(u, sh, seed.item<int64_t>(), step.isa);
    Bases kept = bases_in(s, sh, step, options.products);
    if (refresh) {
      const Bases fresh = drawn(u, sh, seed.item<int64_t>(), step.isa);
      (sh.left ? kept.left : kept.right).copy_(sh.left ? fresh.left : fresh.right);
    }
    return kept;
  }
  Bases drawn(const Tensor& u, const SubspaceShape& sh, int64_t seed, Isa isa) const {
    const auto gaussian = [&](int64_t rows, int64_t cols) {
      return gaussian_projection(seed, rows, cols, u.scalar_type()).to(u.device());
    };
    Bases bases{.products = options.products, .isa = isa};
    if (sh.left) bases.left = gaussian(sh.rows, sh.rank);
    else bases.right = gaussian(sh.rank, sh.cols).mT().contiguous();
    return bases;
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    const SubspaceShape sh = shape(u.size(-2), u.size(-1));
    const Bases now = bases(u, s, sh, step);
    const ParameterInfo seen = seen_inside(step.parameter, sh);
    const Tensor r = now.project(u);
    const Step inside = step_inside(step, seen, step.grad.is_same(u) ? r : now.project(step.grad));
    const Tensor n = inner.apply(r, s.child(0), inside);
    return n.defined() ? u.mul(channel_factor(n, r, sh, options.scale_type)) : n;
  }
  Value to_value() const { return bracket_value(name(), options, inner); }
  std::string decided(const Bucket& b, Isa isa) const {
    return with_products(options.products, b, isa, decided_inside(inner, b, isa, shape(b.rows, b.cols)));
  }
  std::string noticed() const { return inner.noticed(); }
};

}  // namespace

Tensor channel_factor(const Tensor& n, const Tensor& r, const SubspaceShape& shape, ChannelScale type) {
  std::vector<int64_t> over{-2, -1};
  if (type == ChannelScale::channel) over = {shape.left ? -2 : -1};
  return at::linalg_vector_norm(n, 2, over, true).div_(at::linalg_vector_norm(r, 2, over, true).add_(1e-8));
}

Stage scale_channels_like(const ScaleChannelsLike& o, Stage inner) {
  const char* who = "scale_channels_like";
  check_subspace(who, o.rank, o.refresh_every);
  check_inside_without_probe(who, inner);
  check_one_side(who, o.type);
  if (o.seed < 0) fail_usage({who, "seed >= 0", std::to_string(o.seed), "0 takes the parameter's position."});
  return ScaleChannelsLikeModel{o, std::move(inner)};
}

Stage limit_norm_growth(const LimitNormGrowth& o) {
  if (!(o.limit > 1 && std::isfinite(o.limit)))
    fail_usage({"limit_norm_growth", "limit > 1", to_json(Value(o.limit)), "1.01 is APOLLO's."});
  return o;
}

StateSpec LimitNormGrowth::state(const Bucket& b) const {
  return {.name = name(),
          .slots = {
              {.name = "norm", .shape = {1, 1}, .dtype = at_least_float32(b.dtype), .follows = Follows::permutation}}};
}

Tensor LimitNormGrowth::limiter(const Tensor& u, State& s, const Step& step) const {
  Tensor& nu = s["norm"];
  const Tensor norm = at::linalg_vector_norm(u.to(nu.scalar_type()), 2, at::IntArrayRef({-2, -1}), true);
  const Tensor growth = norm.div(nu.add(1e-8)).clamp_min(limit).div_(limit);
  const bool first = step.step == 1;
  const Tensor by = released ? (first ? at::ones_like(growth) : growth) : at::where(nu.gt(0), growth, 1.0);
  nu.copy_(norm.div(by));
  return by;
}

Tensor LimitNormGrowth::apply(const Tensor& u, State& s, const Step& step) const {
  return u.div(limiter(u, s, step)).to(u.scalar_type());
}
Tensor LimitNormGrowth::apply_in_place(const Tensor& u, State& s, const Step& step) const {
  return u.div_(limiter(u, s, step));
}

}  // namespace schatten
