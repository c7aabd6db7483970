// The same plain loops for several instruction sets; internal linkage, so that each file keeps its own copy.
#pragma once
#include <schatten/kernels/shifted_inverses_impl.h>

namespace schatten {
namespace {

constexpr int kSide = 32;

/// Gaussian elimination of [C | I] by rows: at step k rows k of U = L^T and of D = L^-1 are final.
bool factor_block(float* c, float shift, float* d) {
  for (int x = 0; x < kSide * kSide; ++x) c[x] = -c[x], d[x] = 0;
  for (int k = 0; k < kSide; ++k) c[k * kSide + k] += shift, d[k * kSide + k] = 1;
  for (int k = 0; k < kSide; ++k) {
    float* const u = c + k * kSide;
    float* const w = d + k * kSide;
    const float pivot = u[k];
    if (!(pivot > 0 && pivot <= __FLT_MAX__)) return false;
    const float by = 1 / __builtin_sqrtf(pivot);
    for (int j = 0; j < kSide; ++j) u[j] *= by, w[j] *= by;
    for (int i = k + 1; i < kSide; ++i) {
      const float f = u[i];
      float* const ui = c + i * kSide;
      float* const wi = d + i * kSide;
      for (int j = 0; j < kSide; ++j) ui[j] -= f * u[j];
      for (int j = 0; j < kSide; ++j) wi[j] -= f * w[j];
    }
  }
  return true;
}

}  // namespace
}  // namespace schatten
