// GPT-2: learned positions, LayerNorm with bias, tanh GELU, one matrix for query, key and value.
#pragma once
#include <schatten/models/language_model.h>

#include <memory>
#include <vector>

namespace schatten {

std::vector<ParameterInfo> gpt_parameters(const Architecture& architecture);
std::unique_ptr<LanguageModel> make_gpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
/// transformers' GPT2Config.
Value gpt_config(const Architecture& architecture);

}  // namespace schatten
