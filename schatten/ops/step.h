// One optimizer step as an operator: everything that it reads and writes is an argument.
#pragma once
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace schatten::ops {

/// torch.ops.schatten.declare(recipe, hyper): what state the groups of a request want (ops/request.h, `declared`).
std::string declare(const std::string& recipe, const std::vector<double>& hyper);

/// torch.ops.schatten.infer(parameters): roles and blocks from names and shapes (ops/request.h, `inferred`).
std::string infer(const std::string& parameters);

/// torch.ops.schatten.step(params, grads, state, recipe, hyper, observed): one update of every parameter in place.
///   params, grads  the parameters of all groups, in the request's order
///   state          per parameter its slots in declared order, `step` (0-dim), and for recipes with controllers
///                  `weight_decay` (0-dim float64; NaN: the recipe's)
///   recipe         the request: structure and numbers that stay
///   hyper          float64 on the CPU: numbers that a scheduler may change
///   observed       what controllers go by, named in the request
/// Mutates params and state, counts their versions up, returns nothing. ValueError names what does not fit, before
/// anything is written.
void step(at::TensorList params, at::TensorList grads, at::TensorList state, const std::string& recipe,
          const at::Tensor& hyper, at::TensorList observed);

/// torch.ops.schatten.probe(params, grads, state, recipe, hyper): the gradients are a probe (Traits::probe); only state
/// is written.
void probe(at::TensorList params, at::TensorList grads, at::TensorList state, const std::string& recipe,
           const at::Tensor& hyper);

/// torch.ops.schatten.sharpness_ascent(params, grads, rho, adaptive): SAM's step up for each (parameters/sharpness.h),
/// with one norm over all of them. Nothing is written.
std::vector<at::Tensor> sharpness_ascent(at::TensorList params, at::TensorList grads, const std::vector<double>& rho,
                                         const c10::List<bool>& adaptive);

}  // namespace schatten::ops
