#include <ATen/ATen.h>
#include <schatten/stages/stage.h>

#include <set>

namespace schatten {

namespace {

std::vector<int64_t> shape_of(const SlotSpec& slot, const Bucket& b) {
  return slot.shape.empty() ? std::vector<int64_t>{b.rows, b.cols} : slot.shape;
}

struct Chain {
  std::vector<Stage> stages;

  std::string name() const { return ""; }  // transparent: children carry the names
  Traits traits() const {
    Traits all;
    for (const Stage& s : stages) all = all | s.traits();
    return all;
  }
  StateSpec state(const Bucket& b) const {
    StateSpec spec;
    for (const Stage& s : stages) spec.children.push_back(s.state(b));
    return spec;
  }
  /// What a stage returns is the chain's own, so the next one may write over it.
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    return the_rest(stages[0].apply(u, s.child(0), step), s, step);
  }
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const {
    return the_rest(stages[0].apply_in_place(u, s.child(0), step), s, step);
  }
  Tensor the_rest(Tensor update, State& s, const Step& step) const {
    for (size_t i = 1; i < stages.size() && update.defined(); ++i)
      update = stages[i].apply_in_place(update, s.child(i), step);
    return update;
  }
  void probe(const Tensor& h, State& s, const Step& step) const {
    for (size_t i = 0; i < stages.size(); ++i) stages[i].probe(h, s.child(i), step);
  }
  Value to_value() const {
    Value list = Value::array();
    for (const Stage& s : stages) list.push_back(s.to_value());
    return Value::Table{{"chain", std::move(list)}};
  }
  std::string decided(const Bucket& b, Isa isa) const {
    return joined([&](const Stage& s) { return s.decided(b, isa); });
  }
  std::string noticed() const {
    return joined([](const Stage& s) { return s.noticed(); });
  }

  template <class Say>
  std::string joined(Say say) const {
    std::string all;
    for (const Stage& s : stages)
      if (const std::string one = say(s); !one.empty()) all += (all.empty() ? "" : ", ") + one;
    return all;
  }
};

struct Named {
  std::string label;
  Stage inner;

  std::string name() const { return label; }
  Traits traits() const { return inner.traits(); }
  StateSpec state(const Bucket& b) const {
    StateSpec spec = inner.state(b);
    spec.name = label;
    return spec;
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const { return inner.apply(u, s, step); }
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const { return inner.apply_in_place(u, s, step); }
  void probe(const Tensor& h, State& s, const Step& step) const { inner.probe(h, s, step); }
  Value to_value() const {
    Value table = inner.to_value();
    table["named"] = label;
    return table;
  }
  std::string decided(const Bucket& b, Isa isa) const { return inner.decided(b, isa); }
  std::string noticed() const { return inner.noticed(); }
};

struct Identity {
  std::string name() const { return "identity"; }
  Traits traits() const { return {}; }
  StateSpec state(const Bucket&) const { return {.name = name()}; }
  Tensor apply(const Tensor& u, State&, const Step&) const { return u.clone(); }
  Tensor apply_in_place(const Tensor& u, State&, const Step&) const { return u; }
  Value to_value() const { return Value::Table{{"stage", "identity"}}; }
};

}  // namespace

Traits operator|(const Traits& a, const Traits& b) {
  return {.locality = std::max(a.locality, b.locality),
          .reads_param = a.reads_param || b.reads_param,
          .takes_vectors = a.takes_vectors && b.takes_vectors,
          .batches = a.batches && b.batches,
          .draws = a.draws || b.draws,
          .probe = a.probe == ProbeKind::none ? b.probe : a.probe,
          .probe_every = std::max(a.probe_every, b.probe_every)};
}

Bucket bucket_of(const ParameterInfo& info, at::ScalarType dtype, at::Device device, const Rng& shared) {
  return {
      .parameter = &info, .rows = info.rows(), .cols = info.cols(), .dtype = dtype, .device = device, .shared = shared};
}

int64_t state_bytes(const StateSpec& spec, const Bucket& b) {
  int64_t bytes = 0;
  for (const SlotSpec& slot : spec.slots)
    bytes += c10::multiply_integers(shape_of(slot, b)) *
             static_cast<int64_t>(c10::elementSize(slot.dtype.value_or(b.dtype)));
  for (const StateSpec& c : spec.children) bytes += state_bytes(c, b);
  return bytes;
}

State::State(const StateSpec& spec, const Bucket& b) : name_(spec.name) {
  for (const SlotSpec& slot : spec.slots)
    slots_.emplace_back(
        slot, at::zeros(shape_of(slot, b), at::TensorOptions().dtype(slot.dtype.value_or(b.dtype)).device(b.device)));
  for (const StateSpec& c : spec.children) children_.emplace_back(c, b);
}

Tensor& State::operator[](std::string_view slot) {
  for (auto& [spec, tensor] : slots_)
    if (spec.name == slot) return tensor;
  fail({"state of " + name_, "a declared slot", "'" + std::string(slot) + "'", "Declare it in state()."});
}

std::vector<Stage> Stage::parts() const {
  std::vector<Stage> all = self_->parts();
  if (all.empty()) all.push_back(*this);
  return all;
}

Stage chain(std::vector<Stage> stages) {
  if (stages.empty()) return identity();
  std::set<std::string> seen;
  for (const Stage& s : stages)
    if (!seen.insert(s.name()).second)
      fail_usage({"chain", "every stage to have a name of its own", "'" + s.name() + "' twice",
                  "Wrap one of them: named(\"slow\", " + s.name() + "(...)), or named = \"slow\" in a config."});
  return Chain{std::move(stages)};
}

Stage named(std::string name, Stage stage) { return Named{std::move(name), std::move(stage)}; }
Stage identity() { return Identity{}; }

}  // namespace schatten
