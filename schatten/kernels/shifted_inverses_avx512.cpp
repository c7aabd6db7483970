#include <schatten/kernels/shifted_inverses_impl.h>

#if defined(__AVX512F__)
#include <schatten/kernels/shifted_inverses_body_impl.h>

namespace schatten {
FactorBlock factor_avx512() { return factor_block; }
}  // namespace schatten
#else
namespace schatten {
FactorBlock factor_avx512() { return nullptr; }
}  // namespace schatten
#endif
