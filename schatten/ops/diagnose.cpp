#include <ATen/ATen.h>
#include <schatten/core/fields.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/weight_files.h>
#include <schatten/diagnostics/columns.h>
#include <schatten/diagnostics/record.h>
#include <schatten/engine/tasks.h>
#include <schatten/ops/diagnose.h>
#include <schatten/ops/errors_impl.h>
#include <torch/library.h>

#include <algorithm>
#include <functional>

namespace schatten::ops {

namespace {

void check_matrices(at::TensorList matrices) {
  for (const Tensor& m : matrices)
    TORCH_CHECK_VALUE(m.dim() == 2 && m.numel() > 0 && at::isFloatingType(m.scalar_type()),
                      "schatten: expected matrices [m, n] with entries of a floating dtype, got ", m.scalar_type(), " ",
                      m.sizes());
}

/// One task per matrix; on a device one after another.
void for_each_matrix(at::TensorList matrices, const std::function<void(size_t)>& work) {
  std::vector<Task> tasks;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const auto [least, most] = std::minmax({matrices[i].size(0), matrices[i].size(1)});
    const double cost = static_cast<double>(least) * static_cast<double>(least) * static_cast<double>(most);
    tasks.push_back({.cost = cost, .run = [&work, i] { work(i); }, .spreads = true});
  }
  const bool on_cpu = std::all_of(matrices.begin(), matrices.end(), [](const Tensor& m) { return m.is_cpu(); });
  if (on_cpu) run_tasks(std::move(tasks));
  else run_in_order(tasks);
}

ColumnsOptions read_options(const std::string& json) {
  ColumnsOptions options;
  if (!json.empty()) read_fields(parse_json(json), options, "spectra");
  return options;
}

Tensor tensor_of(const std::vector<double>& numbers, int64_t size) {
  if (numbers.empty()) return at::full({size}, std::nan(""), at::kDouble);
  return at::tensor(numbers, at::kDouble);
}

/// Sizes may be symbols.
std::tuple<Tensor, std::vector<Tensor>> meta_spectra(at::TensorList matrices, const std::string&) {
  const auto where = (matrices.empty() ? at::TensorOptions() : matrices[0].options()).dtype(at::kDouble);
  std::vector<Tensor> values;
  for (const Tensor& m : matrices) {
    TORCH_CHECK_VALUE(m.dim() == 2, "schatten: expected matrices [m, n], got ", m.sym_sizes());
    values.push_back(at::empty_symint({m.sym_size(0).min(m.sym_size(1))}, where));
  }
  const auto rows = static_cast<int64_t>(matrices.size()), columns = static_cast<int64_t>(column_infos().size());
  return {at::empty({rows, columns}, where), values};
}

struct AboutParameter {
  std::string name;
  int64_t index = 0;
  int block = -1;
  double lr = 1;
  void fields(auto&& visit) {
    visit("name", name, "");
    visit("index", index, "");
    visit("block", block, "");
    visit("lr", lr, "what its update was multiplied with");
  }
};

struct About {
  int64_t step = 0, seed = 0;
  std::vector<AboutParameter> parameters{};
  void fields(auto&& visit) {
    visit("step", step, "");
    visit("seed", seed, "");
    visit("parameters", parameters, "");
  }
};

Tensor unless_empty(const Tensor& t) { return t.numel() > 0 ? t : Tensor(); }

}  // namespace

std::tuple<Tensor, std::vector<Tensor>> spectra(at::TensorList matrices, const std::string& options) {
  return in_pythons_words([&] {
    const ColumnsOptions chosen = read_options(options);
    check_matrices(matrices);
    std::vector<Row> rows(matrices.size());
    for_each_matrix(matrices, [&](size_t i) { rows[i] = row_of(matrices[i].detach(), chosen); });
    const auto device = matrices.empty() ? at::Device(at::kCPU) : matrices[0].device();
    std::vector<double> numbers;
    std::vector<Tensor> values;
    for (const Row& row : rows) {
      const auto own = numbers_of(row.columns);
      numbers.insert(numbers.end(), own.begin(), own.end());
      values.push_back(tensor_of(row.singular_values, row.columns.M).to(device));
    }
    const auto columns = static_cast<int64_t>(column_infos().size());
    const Tensor table = at::tensor(numbers, at::kDouble).reshape({static_cast<int64_t>(rows.size()), columns});
    return std::make_tuple(table.to(device), values);
  });
}

std::string spectra_columns() {
  Value list = Value::array();
  for (const ColumnInfo& c : column_infos())
    list.push_back(Value::Table{{"name", c.name}, {"help", c.help}, {"whole", c.whole}});
  return to_json(list);
}

std::string spectra_records(at::TensorList weights, at::TensorList momenta, at::TensorList updates,
                            const std::string& about) {
  return in_pythons_words([&] {
    About text;
    read_fields(parse_json(about), text, "about");
    check_matrices(weights);
    TORCH_CHECK_VALUE(momenta.size() == weights.size() && updates.size() == weights.size() &&
                          text.parameters.size() == weights.size(),
                      "schatten: expected a momentum, an update and a name for each of ", weights.size(),
                      " weights, got ", momenta.size(), ", ", updates.size(), " and ", text.parameters.size());
    Value::Array records(weights.size());
    for_each_matrix(weights, [&](size_t i) {
      const AboutParameter& p = text.parameters[i];
      const ParameterInfo info{.name = p.name, .index = p.index, .block = p.block};
      const Seen seen{weights[i].detach(), unless_empty(momenta[i]), unless_empty(updates[i]), p.lr};
      records[i] = spectra_record(info, text.step, seen, static_cast<uint64_t>(text.seed));
    });
    return to_json(Value(std::move(records)));
  });
}

std::string stored_weights(const std::string& path) {
  return in_pythons_words([&] {
    Value list = Value::array();
    for (const StoredTensor& t : list_weights(path))
      list.push_back(Value::Table{{"name", t.name},
                                  {"file", t.file.string()},
                                  {"dtype", dtype_name(t.dtype)},
                                  {"shape", field_value(t.shape)}});
    return to_json(list);
  });
}

Tensor stored_weight(const std::string& file, const std::string& name) {
  return in_pythons_words([&] { return load_safetensors_tensor(file, name); });
}

}  // namespace schatten::ops

TORCH_LIBRARY_FRAGMENT(schatten, m) {
  m.def("spectra(Tensor[] matrices, str options) -> (Tensor, Tensor[])");
  m.def("spectra_columns() -> str", &schatten::ops::spectra_columns);
  m.def("spectra_records(Tensor[] weights, Tensor[] momenta, Tensor[] updates, str about) -> str");
  m.def("stored_weights(str path) -> str", &schatten::ops::stored_weights);
  m.def("stored_weight(str file, str name) -> Tensor", &schatten::ops::stored_weight);
}

TORCH_LIBRARY_IMPL(schatten, CompositeExplicitAutograd, m) {
  m.impl("spectra", &schatten::ops::spectra);
  m.impl("spectra_records", &schatten::ops::spectra_records);
}

TORCH_LIBRARY_IMPL(schatten, Meta, m) { m.impl("spectra", &schatten::ops::meta_spectra); }
