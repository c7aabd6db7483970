// Sharpness-aware ascent: weights go to the worst point nearby, and come back with the same bits.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/tensor.h>

#include <vector>

namespace schatten {

struct SharpnessOptions {
  double rho = 0.05;
  bool adaptive = false;
  void fields(auto&& visit) {
    visit("rho", rho, "radius of the ascent, >= 0 (adaptive: about 2)");
    visit("adaptive", adaptive, "the radius is measured in units of |W|, entry by entry");
  }
};

/// The step up, norms over all parameters together:
///   e = rho / (|g| + 1e-12) g                           SAM
///   e = rho / (| |W| g | + 1e-12) W^2 g                 adaptive SAM
/// One tensor per parameter, of its shape, in float32 or float64; undefined where the gradient is.
/// Source   Foret et al. 2021, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600; davda54/sam@3c3afdb.
/// Checked  parameters/sharpness_test (the authors' numbers).
std::vector<Tensor> sharpness_ascent(const std::vector<Tensor>& parameters, const std::vector<Tensor>& grads,
                                     const SharpnessOptions& options);
/// The same with a radius and a form for each: groups of parameters may have their own.
std::vector<Tensor> each_sharpness_ascent(const std::vector<Tensor>& parameters, const std::vector<Tensor>& grads,
                                          const std::vector<SharpnessOptions>& options);

/// Between construction and restore() the parameters stand at W + e, e from their gradients.
///   { Perturbation up(tensors, {.rho = 0.05}); second_backward(); }   // W is back, also after an exception
class Perturbation {
 public:
  Perturbation(std::vector<Tensor> parameters, const SharpnessOptions& options);
  ~Perturbation();
  Perturbation(const Perturbation&) = delete;
  Perturbation& operator=(const Perturbation&) = delete;
  /// Puts W back, bit for bit; a second call does nothing.
  void restore();

 private:
  std::vector<Tensor> parameters_, copies_;  // copies_ empty: restored
};

}  // namespace schatten
