// Element-wise steps in one pass over memory: second implementations of chains of stages (momentum, Adam, Lion, ...).
// Every instruction set does the same IEEE operations in the same order on each entry, so the results do not depend on
// `isa`, on where a piece begins or on who computes it. NaN and infinities go through as in the formulas.
#pragma once
#include <schatten/kernels/isa.h>

#include <cstdint>

namespace schatten {

/// Where float32 or bfloat16 (by its bits) numbers lie, or nowhere.
struct ConstNumbers {
  const void* data = nullptr;
  bool bfloat16 = false;
  ConstNumbers() = default;
  ConstNumbers(const float* p) : data(p) {}                     // NOLINT: a pointer says its type
  ConstNumbers(const uint16_t* p) : data(p), bfloat16(true) {}  // NOLINT
};
struct Numbers {
  void* data = nullptr;
  bool bfloat16 = false;
  Numbers() = default;
  Numbers(float* p) : data(p) {}                     // NOLINT: a pointer says its type
  Numbers(uint16_t* p) : data(p), bfloat16(true) {}  // NOLINT
};

/// Long tensors are worked on in pieces of this many entries, whatever the number of threads.
constexpr int64_t kElementwisePiece = int64_t{1} << 18;

/// Momentum, as stages/momentum.h has it.
///   average    M <- M + (1 - mu)(G - M),  X = G + mu (M - G)  if nesterov, else M
///   otherwise  M <- mu M + G,             X = G + mu M        if nesterov, else M
struct MomentumRule {
  bool average = true;
  double decay = 0.95;  // mu
  bool nesterov = true;
};

/// What decay does to W beside the update.
enum class Shrink {
  none,
  before,    // W <- (1 - by) W, then the update         (decoupled)
  after,     // the update, then W <- (1 - by) W
  cautious,  // W <- W - by W where U W >= 0, then the update
};
/// W <- W - lr (scale U), with decay. A bfloat16 W is rounded after decay and after the update; U is rounded before it
/// is applied, and so is lr: what Decay and Retraction::move make of bfloat16 tensors.
struct WeightRule {
  double lr = 0;
  double scale = 1;
  Shrink shrink = Shrink::none;
  double shrink_by = 0;  // lr lambda
  double coupled = 0;    // lambda: the rules below see G + lambda W
};

/// M is stepped, X is written (float32, or bfloat16 rounded to nearest even), both apart from G.
/// Returns the sum of the squares of X as it was written: exact products, summed in double over 16 lanes within pieces
/// of kElementwisePiece entries, pieces in order; so the sum over calls for such pieces is the sum of one call for all.
double momentum_into(Isa isa, const MomentumRule& rule, ConstNumbers grad, float* momentum, Numbers x, int64_t count);

/// W takes the update U.
void apply_update(Isa isa, const WeightRule& rule, ConstNumbers update, Numbers weight, int64_t count);

/// What one step of an element-wise rule reads and writes, `count` entries each. State is float32.
struct Entries {
  ConstNumbers grad;
  Numbers weight;
  float* first = nullptr;   // momentum_buffer, exp_avg
  float* second = nullptr;  // exp_avg_sq, sum
  float* update = nullptr;  // U is written here, too, for those who watch
  int64_t count = 0;
};

/// U = X of MomentumRule, or its sign. Without `first`: U = G.
void step_momentum(Isa isa, const MomentumRule& rule, bool sign, const WeightRule& weight, const Entries& entries);

/// m <- beta1 m + (1 - beta1) G,  v <- beta2 v + (1 - beta2) G^2,  U = after (before m) / (root_scale sqrt(v) + eps).
/// The three factors make the forms of ScaleByAdam. Without `first`, G stands for m.
struct AdamRule {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double before = 1, root_scale = 1, after = 1;
};
void step_adam(Isa isa, const AdamRule& rule, const WeightRule& weight, const Entries& entries);

/// v <- alpha v + (1 - alpha) G^2,  m <- mu m + G / (sqrt(v) + eps),  U = m  (nesterov: G / (..) + mu m).
struct RmspropRule {
  double alpha = 0.99, eps = 1e-8, momentum = 0.9;
  bool nesterov = false;
};
void step_rmsprop(Isa isa, const RmspropRule& rule, const WeightRule& weight, const Entries& entries);

/// s <- s + G^2,  U = after G / (sqrt(s) + eps).
struct AdagradRule {
  double eps = 1e-10, after = 1;
};
void step_adagrad(Isa isa, const AdagradRule& rule, const WeightRule& weight, const Entries& entries);

/// U = sign(beta1 m + (1 - beta1) G),  m <- beta2 m + (1 - beta2) G.
struct LionRule {
  double beta1 = 0.9, beta2 = 0.99;
};
void step_lion(Isa isa, const LionRule& rule, const WeightRule& weight, const Entries& entries);

}  // namespace schatten
