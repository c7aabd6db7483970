// Matrix recipes with momentum in front: one pass over memory before the spectral part and one behind it.
#pragma once
#include <schatten/core/shape_scale.h>
#include <schatten/engine/fused.h>
#include <schatten/stages/spectral.h>

#include <optional>
#include <vector>

namespace schatten {

/// A chain of ema or heavy_ball, then stages of any kind, at last perhaps scale_by_shape:
///   X = momentum(M, G) and its norm in one pass;  U = the stages between, of X;  W <- decay(W) - lr c U in one pass.
/// Where the stage between is orthogonalize, X is written in the dtype that it is computed in and goes straight to the
/// kernels of linalg/polar.h. A second implementation of the chain; state, names and shapes are the stages'.
/// The chain's results to the rounding of the compute dtype; the same whether or not somebody watches.
/// Checked  engine/fused_matrix_test.
class MatrixTwin {
 public:
  /// Nothing for other chains, coupled decay (its gradient needs W) and retractions.
  static std::optional<MatrixTwin> of(const Recipe& recipe);

  /// Fills `fused.update` where it is defined. `step` is what the stages are told. Returns the rate that
  /// was taken; nothing where the stages made no update.
  std::optional<double> run(const FusedStep& fused, Step step) const;
  /// "momentum, quintic Newton-Schulz, step"
  std::string kernel() const;

 private:
  struct Polar {
    NewtonSchulzOptions options;
    ComputeDtype compute;
  };
  /// Where the kernels of linalg/polar.h serve.
  std::optional<PolarPlan> kernel_plan(int64_t rows, int64_t cols, Isa isa) const;
  void orthogonalized(const FusedStep& fused, const PolarPlan& plan, Isa isa, double scale) const;

  MomentumRule front_;
  std::optional<Polar> polar_;  // alone between front and scale
  std::vector<Stage> between_;
  ShapeScale shape_ = ShapeScale::none;
};

}  // namespace schatten
