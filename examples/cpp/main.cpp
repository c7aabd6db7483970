#include <schatten/engine/optimizer.h>
#include <schatten/papers/papers.h>
#include <torch/torch.h>

int main() {
  torch::nn::Sequential model(torch::nn::Linear(64, 128), torch::nn::GELU(), torch::nn::Linear(128, 10));
  schatten::Optimizer optimizer(
      *model, {{"hidden_matrix", schatten::htmuon({.power = 0.125}), 0.02}, {"any", schatten::adamw({}), 0.003}});
  std::cout << optimizer.routing_table();
  for (int step = 0; step <= 100; ++step) {
    const torch::Tensor x = torch::randn({256, 64}), digit = x.narrow(1, 0, 10).argmax(1);
    const torch::Tensor loss = torch::cross_entropy_loss(model->forward(x), digit);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step % 50 == 0) std::cout << "step " << step << "  loss " << loss.item<double>() << "\n";
  }
}
