// Protocols: what needs more than one gradient per step, or more than one set of weights.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/rng.h>
#include <schatten/data/loader.h>
#include <schatten/models/language_model.h>
#include <schatten/stages/stage.h>

#include <functional>
#include <string>
#include <vector>

namespace schatten {

/// Gradients of the loss with labels drawn from the model itself: what Sophia's Gauss-Newton-Bartlett estimate squares.
/// The draw is a pure function of `rng`. Leaves them in the parameters' .grad.
void sampled_label_gradients(const LanguageModel& model, const Batch& batch, const Rng& rng);

/// u * (H u) for random signs u, H u by central differences of the gradient at W +- eps u, eps = 1e-2 of the weights'
/// root mean square; weights come back bit for bit. Leaves it in .grad. `gradients` fills .grad at the present weights.
void hutchinson_gradients(const std::vector<Parameter>& parameters, const std::function<void()>& gradients,
                          const Rng& rng);

/// Exponential moving average of the weights: A <- d A + (1 - d) W with d = min(decay, (1 + t) / (10 + t)), so that the
/// first weights are forgotten soon. Evaluations read A, training goes on in W.
class WeightAverage {
 public:
  WeightAverage(const std::vector<Parameter>& parameters, double decay);
  void update();  // after a step
  /// Weights and average change places; twice is none.
  void swap();
  /// By parameter name, with the count of updates; the reverse throws where names or shapes differ.
  TensorFile state() const;
  void load_state(const TensorFile& file);

 private:
  std::vector<Parameter> parameters_;
  std::vector<Tensor> average_;
  double decay_;
  int64_t updates_ = 0;
};

}  // namespace schatten
