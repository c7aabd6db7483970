// Spectra of matrices, and weights from safetensors files one at a time, as operators.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <tuple>
#include <vector>

namespace schatten::ops {

/// torch.ops.schatten.spectra(matrices, options) -> (table, singular values of each, descending)
///   matrices   [m, n] each, of a floating dtype
///   options    JSON, diagnostics/columns.h `ColumnsOptions`; "" for the defaults
/// Both results are float64, on the device of the first matrix: a row per matrix with the numbers that spectra_columns
/// names; singular values are NaN where the matrix holds NaN or infinity.
std::tuple<at::Tensor, std::vector<at::Tensor>> spectra(at::TensorList matrices, const std::string& options);

/// torch.ops.schatten.spectra_columns(): [{"name", "help", "whole"}, ...]
std::string spectra_columns();

/// torch.ops.schatten.spectra_records(weights, momenta, updates, about) -> lines of spectra.jsonl as a JSON list
///   momenta, updates   beside each weight; one without entries is left out
///   about              {"step": 1, "seed": 0, "parameters": [{"name", "index", "block", "lr"}, ...]}
std::string spectra_records(at::TensorList weights, at::TensorList momenta, at::TensorList updates,
                            const std::string& about);

/// torch.ops.schatten.stored_weights(path): [{"name", "file", "dtype", "shape"}, ...] (core/weight_files.h)
std::string stored_weights(const std::string& path);
/// torch.ops.schatten.stored_weight(file, name): this tensor; nothing else of the file is read.
at::Tensor stored_weight(const std::string& file, const std::string& name);

}  // namespace schatten::ops
