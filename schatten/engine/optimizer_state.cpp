#include <ATen/ATen.h>
#include <schatten/engine/optimizer_impl.h>

namespace schatten {

namespace {

/// State leaves in the parameter's shape; what is not shaped like the matrix leaves as it is.
Tensor as_parameter(const Tensor& t, const SlotSpec& slot, const ParameterInfo& p) {
  return slot.shape.empty() && t.numel() == p.numel() ? t.view(p.shape) : t;
}

}  // namespace

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  impl_->each_state([&](const std::string&, const Tensor& t) { bytes += static_cast<int64_t>(t.nbytes()); });
  return bytes;
}

TensorFile Optimizer::state() const {
  TensorFile file;
  for (Slot& s : impl_->slots) {
    const ParameterInfo& info = s.parameter.info;
    s.state.each([&](const std::string& path, const Tensor& t,
                     const SlotSpec& slot) { file.tensors.emplace_back(path, as_parameter(t, slot, info).clone()); },
                 info.name + "/");
    file.tensors.emplace_back(info.name + "/step", at::full({}, s.steps, at::kLong));
    if (s.weight_decay)
      file.tensors.emplace_back(info.name + "/weight_decay", at::full({}, *s.weight_decay, at::kDouble));
  }
  for (size_t r = 0; r < impl_->routes().size(); ++r)
    file.metadata["route." + std::to_string(r)] =
        impl_->routes()[r].match + " " + to_json(to_value(impl_->routes()[r].recipe));
  return file;
}

namespace {

constexpr const char* kOtherModel = "The checkpoint belongs to another model or recipe.";

/// The tensors that a state file must hold, checked one by one before anything is written.
struct StateReader {
  const TensorFile& file;
  size_t taken = 0;

  const Tensor& take(const std::string& path, const Tensor& like, bool any_shape = false) {
    const Tensor* found = file.find(path);
    if (!found)
      fail({file.who("optimizer state"), "'" + path + "'",
            "none among " + std::to_string(file.tensors.size()) + " tensors", kOtherModel});
    const bool shaped = any_shape ? found->dim() == like.dim() : found->sizes() == like.sizes();
    if (!shaped || found->scalar_type() != like.scalar_type())
      fail({file.who("optimizer state"),
            "'" + path + "' as " + c10::str(c10::toString(like.scalar_type()), like.sizes()),
            c10::str(c10::toString(found->scalar_type()), found->sizes()), kOtherModel});
    ++taken;
    return *found;
  }
};

}  // namespace

void Optimizer::load_state(const TensorFile& file) {
  StateReader reader{file};
  std::vector<std::function<void()>> writes;  // nothing is written until all of it fits
  for (Slot& s : impl_->slots) {
    const ParameterInfo& info = s.parameter.info;
    s.state.each(
        [&](const std::string& path, Tensor& into, const SlotSpec& slot) {
          const Tensor& from = reader.take(path, as_parameter(into, slot, info), slot.resizes);
          Tensor* target = &into;
          if (slot.resizes) writes.emplace_back([target, from] { *target = from.clone(); });
          else writes.emplace_back([view = as_parameter(into, slot, info), from]() mutable { view.copy_(from); });
        },
        info.name + "/");
    const auto steps = reader.take(info.name + "/step", at::zeros({}, at::kLong)).item<int64_t>();
    std::optional<double> decay;
    if (file.find(info.name + "/weight_decay"))
      decay = reader.take(info.name + "/weight_decay", at::zeros({}, at::kDouble)).item<double>();
    writes.emplace_back([&s, steps, decay] {
      s.steps = steps;
      s.weight_decay = decay;
    });
  }
  if (file.tensors.size() != reader.taken)
    fail({file.who("optimizer state"), std::to_string(reader.taken) + " tensors", std::to_string(file.tensors.size()),
          kOtherModel});
  for (const auto& write : writes) write();
}

Tensor Optimizer::slot(const std::string& parameter, std::string_view slot) const {
  Tensor found;
  for (Slot& s : impl_->slots)
    if (s.parameter.info.name == parameter)
      s.state.each([&](const std::string& path, const Tensor& t) {
        if (("/" + path).ends_with("/" + std::string(slot))) found = t;
      });
  return found;
}

}  // namespace schatten
