// The operators that torch's dispatcher knows as torch.ops.schatten.*: what the Python package is made of.
#include <ATen/ATen.h>
#include <schatten/ops/step.h>
#include <torch/library.h>

TORCH_LIBRARY(schatten, m) {
  m.def("version() -> str", [] { return std::string(SCHATTEN_VERSION); });
  m.def("infer(str parameters) -> str", &schatten::ops::infer);
  m.def("declare(str recipe, float[] hyper) -> str", &schatten::ops::declare);
  m.def(
      "step(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] state, str recipe, Tensor hyper, Tensor[] observed) -> "
      "()");
  m.def("probe(Tensor[] params, Tensor[] grads, Tensor(b!)[] state, str recipe, Tensor hyper) -> ()");
  m.def("sharpness_ascent(Tensor[] params, Tensor[] grads, float[] rho, bool[] adaptive) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(schatten, CompositeExplicitAutograd, m) {
  m.impl("step", &schatten::ops::step);
  m.impl("probe", &schatten::ops::probe);
  m.impl("sharpness_ascent", &schatten::ops::sharpness_ascent);
}

// Nothing is returned, so there is nothing to work out about shapes.
TORCH_LIBRARY_IMPL(schatten, Meta, m) {
  m.impl("step",
         [](at::TensorList, at::TensorList, at::TensorList, const std::string&, const at::Tensor&, at::TensorList) {});
  m.impl("probe", [](at::TensorList, at::TensorList, at::TensorList, const std::string&, const at::Tensor&) {});
}
