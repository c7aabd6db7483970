// What connects elementwise.cpp with the code for each instruction set: plain data and pointers only.
#pragma once
#include <cstdint>

namespace schatten {

/// a + weight (b - a), or b + weight (b - a) with weight - 1 for the weight: from the nearer end, as at::lerp does.
struct MixConstants {
  float weight;
  bool from_end;
};

/// The numbers of all rules, rounded to float32; each rule uses some.
struct ElementwiseConstants {
  bool average, nesterov;           // momentum
  MixConstants mix, look;           // of the buffer; of what is looked ahead to (average) or stepped along (Lion)
  float mu;                         // momentum as a sum
  float beta2, share2, eps;         // second moment: v <- beta2 v + share2 G^2
  float before, root_scale, after;  // U = after (before m) / (root_scale sqrt(v) + eps)
  float minus_lr, scale;            // W <- W - lr (scale U)
  float shrink_before, shrink_after, minus_by, coupled;
  bool cautious;
};

enum class ElementwiseRule { given, momentum, momentum_sign, adam, adam_without_first, rmsprop, adagrad, lion };

struct ElementwiseArrays {
  const void* grad;
  void* weight;  // X of momentum_into
  float *first, *second, *update;
  int64_t count;
  bool grad_bfloat16, weight_bfloat16;
  bool past_caches;  // momentum_into: X is aligned to 64 bytes and too long to stay in a cache
};

struct ElementwiseKernels {
  double (*momentum_into)(const ElementwiseConstants&, const ElementwiseArrays&);  // one piece
  void (*step)(ElementwiseRule, const ElementwiseConstants&, const ElementwiseArrays&);
};

/// Which of 16 entries are there.
struct All {};
struct Only {
  int lanes;
};

const ElementwiseKernels& elementwise_portable();
/// Null where the file was compiled without its instructions.
const ElementwiseKernels* elementwise_avx2();
const ElementwiseKernels* elementwise_avx512();

}  // namespace schatten
