// What one instruction set brings to shifted_inverses.cpp: the work on one diagonal block.
#pragma once

namespace schatten {

/// L L^T = shift I - c, D = L^-1, zeros above the diagonal; both [32][32], row after row, aligned to 64 bytes; c is
/// overwritten. False at a pivot that is not positive and finite.
using FactorBlock = bool (*)(float* c, float shift, float* d);

/// Null where the file was compiled without its instructions.
FactorBlock factor_avx2();
FactorBlock factor_avx512();

}  // namespace schatten
