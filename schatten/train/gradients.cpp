#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/engine/tasks.h>
#include <schatten/train/trainer.h>

#include <cmath>

namespace schatten {

double global_gradient_norm(const std::vector<Parameter>& parameters) {
  std::vector<double> squares(parameters.size(), 0);
  std::vector<Task> tasks;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& grad = parameters[i].tensor.grad();
    if (!grad.defined()) continue;
    tasks.push_back({static_cast<double>(grad.numel()), [&squares, grad, i] {
                       // A sum in bfloat16 would be right to three digits only.
                       const at::ScalarType wide = at_least_float32(grad.scalar_type());
                       const double norm = at::linalg_vector_norm(grad, 2, c10::nullopt, false, wide).item<double>();
                       squares[i] = norm * norm;
                     }});
  }
  run_tasks(std::move(tasks));
  double sum = 0;
  for (const double s : squares) sum += s;
  return std::sqrt(sum);
}

void clip_gradients(const std::vector<Parameter>& parameters, double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor < 1)) return;
  const at::NoGradGuard no_grad;
  for (const Parameter& p : parameters)
    if (p.tensor.grad().defined()) p.tensor.grad().mul_(factor);
}

}  // namespace schatten
