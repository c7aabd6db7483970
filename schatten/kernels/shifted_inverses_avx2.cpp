#include <schatten/kernels/shifted_inverses_impl.h>

#if defined(__AVX2__)
#include <schatten/kernels/shifted_inverses_body_impl.h>

namespace schatten {
FactorBlock factor_avx2() { return factor_block; }
}  // namespace schatten
#else
namespace schatten {
FactorBlock factor_avx2() { return nullptr; }
}  // namespace schatten
#endif
