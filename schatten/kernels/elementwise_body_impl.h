// The formulas of elementwise.h, written once. Included by each elementwise_*.cpp behind its own `Lanes` (16 float32)
// and `Sums` (16 float64); everything lies in an anonymous namespace, so no two files share a function.
//
// Roundings follow at::lerp, mul, add and addcmul as vectorised, with multiply-add where they have it; division and
// root are IEEE's. Products that are not meant to be fused stay apart by -ffp-contract=off.
#include <schatten/kernels/elementwise_impl.h>

namespace schatten {
namespace {

/// body(i, which) for 16 entries at a time.
template <class Body>
inline void each(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) body(i, All{});
  if (i < count) body(i, Only{static_cast<int>(count - i)});
}

/// Loads, and asks for what this stream needs next: by itself the hardware stops at every page.
template <class Number, class Which>
inline Lanes next(const Number* p, Which which) {
  fetch(p + 512);
  return load(p, which);
}

template <class Number>
inline Lanes rounded(Lanes x) {
  if constexpr (sizeof(Number) == 2) return round_to_bfloat16(x);
  else return x;
}

inline Lanes mixed(const MixConstants& c, Lanes start, Lanes end) {
  return multiply_add(all(c.weight), end - start, c.from_end ? end : start);
}

/// Steps the buffer and returns what to step along.
template <class Which>
inline Lanes momentum(const ElementwiseConstants& c, Lanes g, float* buffer, Which which) {
  Lanes m = next(buffer, which);
  m = c.average ? mixed(c.mix, m, g) : m * all(c.mu) + g;
  store(buffer, m, which);
  if (!c.nesterov) return m;
  return c.average ? mixed(c.look, g, m) : multiply_add(m, all(c.mu), g);
}

template <class Which>
inline Lanes root_of_second_moment(const ElementwiseConstants& c, Lanes g, float* second, Which which) {
  const Lanes v = multiply_add(all(c.share2) * g, g, next(second, which) * all(c.beta2));
  store(second, v, which);
  return root(v);
}

template <ElementwiseRule rule, class Which>
inline Lanes direction(const ElementwiseConstants& c, Lanes g, const ElementwiseArrays& a, int64_t i, Which which) {
  if constexpr (rule == ElementwiseRule::momentum) return momentum(c, g, a.first + i, which);
  if constexpr (rule == ElementwiseRule::momentum_sign) return sign(momentum(c, g, a.first + i, which));
  if constexpr (rule == ElementwiseRule::adam || rule == ElementwiseRule::adam_without_first) {
    Lanes m = g;
    if constexpr (rule == ElementwiseRule::adam) {
      m = mixed(c.mix, next(a.first + i, which), g);
      store(a.first + i, m, which);
    }
    const Lanes denominator =
        multiply_add(root_of_second_moment(c, g, a.second + i, which), all(c.root_scale), all(c.eps));
    return m * all(c.before) / denominator * all(c.after);
  }
  if constexpr (rule == ElementwiseRule::rmsprop) {
    const Lanes scaled = g / (root_of_second_moment(c, g, a.second + i, which) + all(c.eps));
    return momentum(c, scaled, a.first + i, which);
  }
  if constexpr (rule == ElementwiseRule::adagrad) {
    const Lanes sum = multiply_add(g, g, next(a.second + i, which));
    store(a.second + i, sum, which);
    return g / (root(sum) + all(c.eps)) * all(c.after);
  }
  if constexpr (rule == ElementwiseRule::lion) {
    const Lanes m = next(a.first + i, which);
    store(a.first + i, mixed(c.mix, m, g), which);
    return sign(mixed(c.look, g, m));
  }
  return g;
}

template <class Weight>
inline Lanes stepped(const ElementwiseConstants& c, Lanes w, Lanes u) {
  if (c.cautious) w = rounded<Weight>(multiply_add(w * one_where_not_negative(u * w), all(c.minus_by), w));
  else w = rounded<Weight>(w * all(c.shrink_before));
  w = rounded<Weight>(multiply_add(rounded<Weight>(u), all(c.minus_lr), w));
  return rounded<Weight>(w * all(c.shrink_after));
}

template <ElementwiseRule rule, class Grad, class Weight>
void step_as(const ElementwiseConstants& constants, const ElementwiseArrays& arrays) {
  const ElementwiseConstants c = constants;  // copies: nothing that is stored below can change them
  const ElementwiseArrays a = arrays;
  const auto* const grad = static_cast<const Grad*>(a.grad);
  auto* const weight = static_cast<Weight*>(a.weight);
  each(a.count, [&](int64_t i, auto which) {
    const Lanes w = next(weight + i, which);
    Lanes g = next(grad + i, which);
    if (c.coupled != 0) g = multiply_add(w, all(c.coupled), g);
    const Lanes u = direction<rule>(c, g, a, i, which) * all(c.scale);
    if (a.update) store(a.update + i, u, which);
    store(weight + i, stepped<Weight>(c, w, u), which);
  });
}

template <ElementwiseRule rule>
void step_any(const ElementwiseConstants& c, const ElementwiseArrays& a) {
  if (a.grad_bfloat16)
    return a.weight_bfloat16 ? step_as<rule, uint16_t, uint16_t>(c, a) : step_as<rule, uint16_t, float>(c, a);
  return a.weight_bfloat16 ? step_as<rule, float, uint16_t>(c, a) : step_as<rule, float, float>(c, a);
}

void step(ElementwiseRule rule, const ElementwiseConstants& c, const ElementwiseArrays& a) {
  using enum ElementwiseRule;
  switch (rule) {
    case given: return step_any<given>(c, a);
    case momentum: return step_any<momentum>(c, a);
    case momentum_sign: return step_any<momentum_sign>(c, a);
    case adam: return step_any<adam>(c, a);
    case adam_without_first: return step_any<adam_without_first>(c, a);
    case rmsprop: return step_any<rmsprop>(c, a);
    case adagrad: return step_any<adagrad>(c, a);
    case lion: return step_any<lion>(c, a);
  }
}

inline double total(const Sums& s) {
  double lanes[16];
  spread(s, lanes);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

template <class Grad, class X>
double momentum_as(const ElementwiseConstants& constants, const ElementwiseArrays& arrays) {
  const ElementwiseConstants c = constants;
  const auto* const grad = static_cast<const Grad*>(arrays.grad);
  auto* const out = static_cast<X*>(arrays.weight);
  float* const buffer = arrays.first;
  Sums squares = no_sums();
  each(arrays.count, [&](int64_t i, auto which) {
    const Lanes x = rounded<X>(momentum(c, next(grad + i, which), buffer + i, which));
    if (arrays.past_caches) store_past_caches(out + i, x, which);
    else store(out + i, x, which);
    add_squares(squares, x);
  });
  if (arrays.past_caches) end_of_stores_past_caches();
  return total(squares);
}

double momentum_into(const ElementwiseConstants& c, const ElementwiseArrays& a) {
  if (a.grad_bfloat16)
    return a.weight_bfloat16 ? momentum_as<uint16_t, uint16_t>(c, a) : momentum_as<uint16_t, float>(c, a);
  return a.weight_bfloat16 ? momentum_as<float, uint16_t>(c, a) : momentum_as<float, float>(c, a);
}

constexpr ElementwiseKernels kKernels{momentum_into, step};

}  // namespace
}  // namespace schatten
