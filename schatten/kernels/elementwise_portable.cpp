// Element-wise steps in plain C++.
#include <schatten/kernels/bfloat16_impl.h>
#include <schatten/kernels/elementwise_impl.h>

namespace schatten {
namespace {

struct Lanes {
  float x[16];
};

template <class F>
inline Lanes lanes(F f) {
  Lanes r;
  for (int k = 0; k < 16; ++k) r.x[k] = f(k);
  return r;
}
inline Lanes all(float x) {
  return lanes([=](int) { return x; });
}
inline Lanes operator+(const Lanes& a, const Lanes& b) {
  return lanes([&](int k) { return a.x[k] + b.x[k]; });
}
inline Lanes operator-(const Lanes& a, const Lanes& b) {
  return lanes([&](int k) { return a.x[k] - b.x[k]; });
}
inline Lanes operator*(const Lanes& a, const Lanes& b) {
  return lanes([&](int k) { return a.x[k] * b.x[k]; });
}
inline Lanes operator/(const Lanes& a, const Lanes& b) {
  return lanes([&](int k) { return a.x[k] / b.x[k]; });
}
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
  return lanes([&](int k) { return __builtin_fmaf(a.x[k], b.x[k], c.x[k]); });
}
inline Lanes root(const Lanes& a) {
  return lanes([&](int k) { return __builtin_sqrtf(a.x[k]); });
}

/// NaN stays.
inline Lanes sign(const Lanes& a) {
  return lanes([&](int k) { return a.x[k] > 0 ? 1.0f : a.x[k] < 0 ? -1.0f : a.x[k] == 0 ? 0.0f : a.x[k]; });
}
inline Lanes one_where_not_negative(const Lanes& a) {
  return lanes([&](int k) { return a.x[k] >= 0 ? 1.0f : 0.0f; });
}

inline Lanes round_to_bfloat16(const Lanes& a) {
  return lanes([&](int k) { return widened(bfloat16_bits(a.x[k])); });
}

inline void read(const float& from, float& to) { to = from; }
inline void read(const uint16_t& from, float& to) { to = widened(from); }
inline void write(float from, float& to) { to = from; }
inline void write(float from, uint16_t& to) { to = bfloat16_bits(from); }

inline int count(All) { return 16; }
inline int count(Only only) { return only.lanes; }

template <class Number, class Which>
inline Lanes load(const Number* p, Which which) {
  Lanes r{};
  for (int k = 0; k < count(which); ++k) read(p[k], r.x[k]);
  return r;
}
template <class Number, class Which>
inline void store(Number* p, const Lanes& a, Which which) {
  for (int k = 0; k < count(which); ++k) write(a.x[k], p[k]);
}

inline void fetch(const void* p) { __builtin_prefetch(p); }
template <class Number, class Which>
inline void store_past_caches(Number* p, const Lanes& a, Which which) {
  store(p, a, which);
}
inline void end_of_stores_past_caches() {}

struct Sums {
  double x[16];
};
inline Sums no_sums() { return {}; }
inline void add_squares(Sums& s, const Lanes& a) {
  for (int k = 0; k < 16; ++k) s.x[k] += static_cast<double>(a.x[k]) * a.x[k];
}
inline void spread(const Sums& s, double* to) {
  for (int k = 0; k < 16; ++k) to[k] = s.x[k];
}

}  // namespace
}  // namespace schatten

#include <schatten/kernels/elementwise_body_impl.h>

namespace schatten {
const ElementwiseKernels& elementwise_portable() { return kKernels; }
}  // namespace schatten
