// LLaMA: RMSNorm with gains, rotary positions, gated SiLU feed-forward, grouped keys and values.
#pragma once
#include <schatten/models/language_model.h>

#include <memory>
#include <vector>

namespace schatten {

std::vector<ParameterInfo> llama_parameters(const Architecture& architecture);
std::unique_ptr<LanguageModel> make_llama(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
/// transformers' LlamaConfig.
Value llama_config(const Architecture& architecture);

}  // namespace schatten
