// Stage: a gradient transformation as an immutable value. Hyper-parameters inside, state outside;
// the last two dims are the matrix.
#pragma once
#include <c10/core/Device.h>
#include <schatten/core/fields.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/rng.h>
#include <schatten/kernels/isa.h>

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schatten {

/// What a stage needs to know to declare its state: one parameter, seen as a matrix
/// (conv [out, in*kh*kw], vector [1, n]).
struct Bucket {
  const ParameterInfo* parameter = nullptr;
  int64_t rows = 0, cols = 0;         // 0: none in particular
  at::ScalarType dtype = at::kFloat;  // of the state, unless a slot says otherwise
  at::Device device = at::kCPU;
  Rng shared{};  // the same for all parameters of an optimizer: joint draws
};
Bucket bucket_of(const ParameterInfo& info, at::ScalarType dtype, at::Device device = at::kCPU,
                 const Rng& shared = Rng{});

/// What becomes of a slot when a bracket changes the coordinates that its inner stage works in.
enum class Follows {
  rotation,     // a sum of gradients: turns with them (momentum_buffer, exp_avg)
  permutation,  // one number per coordinate: only follows their order (exp_avg_sq)
  nothing,      // a guess that the next step corrects, whatever the coordinates
};

/// Empty `shape` means: like the matrix.
struct SlotSpec {
  std::string name;
  std::vector<int64_t> shape{};
  std::optional<at::ScalarType> dtype{};  // none: the state policy decides
  Follows follows = Follows::rotation;
  bool resizes = false;  // `shape` is the first one; the stage may put a tensor of another shape there later
};
struct StateSpec {
  std::string name;
  std::vector<SlotSpec> slots{};
  std::vector<StateSpec> children{};
};
int64_t state_bytes(const StateSpec& spec, const Bucket& bucket);

/// The tensors that a StateSpec declares, zero at first.
class State {
 public:
  State() = default;
  State(const StateSpec& spec, const Bucket& bucket);
  Tensor& operator[](std::string_view slot);
  State& child(size_t index) { return children_[index]; }
  /// Calls visit("ema/momentum_buffer", tensor) for every slot, depth first.
  /// With a third argument the visitor sees the slot's declaration, too.
  template <class Visit>
  void each(Visit&& visit, const std::string& prefix = "") {
    const std::string here = prefix + name_ + "/";
    for (auto& [spec, tensor] : slots_) {
      if constexpr (std::invocable<Visit&, std::string, Tensor&, const SlotSpec&>)
        visit(here + spec.name, tensor, spec);
      else visit(here + spec.name, tensor);
    }
    for (State& c : children_) c.each(visit, name_.empty() ? prefix : here);
  }
  /// The tensors and their declarations in the same order, without their names: for each step.
  template <class Visit>
  void tensors(Visit&& visit) {
    for (auto& [spec, tensor] : slots_) visit(tensor, spec);
    for (State& c : children_) c.tensors(visit);
  }
  /// The same state seen through another view of every tensor (slices of elementwise stages).
  template <class View>
  State viewed(View&& view) const {
    State copy = *this;
    copy.each([&](const std::string&, Tensor& t) { t = view(t); });
    return copy;
  }

 private:
  std::string name_;
  std::vector<std::pair<SlotSpec, Tensor>> slots_;
  std::vector<State> children_;
};

enum class Locality { elementwise, row, matrix };  // how much of W one result needs
constexpr auto enum_names(Locality) { return std::to_array<std::string_view>({"elementwise", "row", "matrix"}); }

/// A second kind of gradient that a stage wants now and then, beside the step's own.
enum class ProbeKind {
  none,
  gauss_newton,  // gradient of the loss with labels sampled from the model itself
  hutchinson,    // u * (H u) for a random sign vector u
};
constexpr auto enum_names(ProbeKind) { return std::to_array<std::string_view>({"none", "gauss_newton", "hutchinson"}); }

struct Traits {
  Locality locality = Locality::elementwise;
  bool reads_param = false;
  bool takes_vectors = true;  // false: makes no sense for a parameter that is no matrix
  bool batches = true;        // false: one matrix at a time only, no leading dimensions
  bool draws = false;         // goes by step.rng: parameters stepped as one batch would all draw the same
  ProbeKind probe = ProbeKind::none;
  int probe_every = 0;
};
/// What two stages need together.
Traits operator|(const Traits& a, const Traits& b);

/// What a stage is told beside its input.
struct Step {
  int64_t step = 1;  // this parameter's own updates, from 1
  double lr = 0;
  const ParameterInfo& parameter;
  Tensor grad;             // matrix view
  Tensor param;            // matrix view; undefined inside basis brackets
  Rng rng{};               // this parameter's own
  Rng shared{};            // the same for all parameters: joint draws
  double* rate = nullptr;  // see take_at
  Isa isa = this_isa();    // of the kernels: no stage asks the machine itself
};
/// Says that this step, decay included, is to be taken at `share` of lr (LionMuon's Lion steps).
inline void take_at(const Step& step, double share) {
  if (step.rate) *step.rate = share;
}

template <class M>
concept StageModel =
    std::copyable<M> && requires(const M& m, const Bucket& b, const Tensor& u, State& s, const Step& step) {
      { m.name() } -> std::convertible_to<std::string>;
      { m.traits() } -> std::same_as<Traits>;
      { m.state(b) } -> std::same_as<StateSpec>;
      { m.apply(u, s, step) } -> std::same_as<Tensor>;  // writes only to s; the result aliases neither u nor s
      { m.to_value() } -> std::same_as<Value>;          // its options, or its children: how it prints itself back
    };

/// Type-erased value of any StageModel; a chain or a bracket is itself a Stage.
class Stage {
 public:
  template <class M>
    requires(!std::same_as<std::remove_cvref_t<M>, Stage> && StageModel<M>)
  Stage(M model) : self_(std::make_shared<const Holder<M>>(std::move(model))) {}  // NOLINT: a model is a stage

  std::string name() const { return self_->name(); }
  Traits traits() const { return self_->traits(); }
  StateSpec state(const Bucket& b) const { return self_->state(b); }
  Tensor apply(const Tensor& u, State& s, const Step& step) const { return self_->apply(u, s, step); }
  /// The same for an u that is the caller's alone: the result may be u, overwritten. A model that gains by it has a member
  /// apply_in_place(u, state, step).
  Tensor apply_in_place(const Tensor& u, State& s, const Step& step) const { return self_->apply_in_place(u, s, step); }
  Value to_value() const { return self_->to_value(); }
  /// What dtype, shape and instructions make of options that leave a choice ("quintic Newton-Schulz, 5 steps: gram,
  /// bfloat16, restart before step 2 and 4"); "" when there is none. A model says so by a member decided(bucket, isa).
  std::string decided(const Bucket& b, Isa isa) const { return self_->decided(b, isa); }
  /// The same whatever the shape.
  std::string decided(at::ScalarType dtype, Isa isa) const { return decided(Bucket{.dtype = dtype}, isa); }
  /// The stages of a chain in their order; of every other stage, itself. (A chain is a model with a member `stages`.)
  std::vector<Stage> parts() const;
  /// Takes in a probe (see Traits::probe) of the matrix's shape. A model that wants none has no member probe().
  void probe(const Tensor& h, State& s, const Step& step) const { self_->probe(h, s, step); }
  /// What could not go the usual way so far ("2 eigenvalue fallbacks"); "" when nothing. A model counts it in a shared
  /// tally, which no result depends on, and says so by a member noticed().
  std::string noticed() const { return self_->noticed(); }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual std::string name() const = 0;
    virtual Traits traits() const = 0;
    virtual StateSpec state(const Bucket&) const = 0;
    virtual Tensor apply(const Tensor&, State&, const Step&) const = 0;
    virtual Tensor apply_in_place(const Tensor&, State&, const Step&) const = 0;
    virtual Value to_value() const = 0;
    virtual std::string decided(const Bucket&, Isa) const = 0;
    virtual std::vector<Stage> parts() const = 0;
    virtual std::string noticed() const = 0;
    virtual void probe(const Tensor&, State&, const Step&) const = 0;
  };
  template <class M>
  struct Holder final : Concept {
    explicit Holder(M m) : model(std::move(m)) {}
    std::string name() const override { return model.name(); }
    Traits traits() const override { return model.traits(); }
    StateSpec state(const Bucket& b) const override { return model.state(b); }
    Tensor apply(const Tensor& u, State& s, const Step& t) const override { return model.apply(u, s, t); }
    Tensor apply_in_place(const Tensor& u, State& s, const Step& t) const override {
      if constexpr (requires { model.apply_in_place(u, s, t); }) return model.apply_in_place(u, s, t);
      else return model.apply(u, s, t);
    }
    Value to_value() const override { return model.to_value(); }
    std::string decided(const Bucket& b, Isa isa) const override {
      if constexpr (requires { model.decided(b, isa); }) return model.decided(b, isa);
      else return "";
    }
    std::vector<Stage> parts() const override {
      if constexpr (requires { model.stages; }) return model.stages;
      else return {};
    }
    std::string noticed() const override {
      if constexpr (requires { model.noticed(); }) return model.noticed();
      else return "";
    }
    void probe(const Tensor& h, State& s, const Step& step) const override {
      if constexpr (requires { model.probe(h, s, step); }) model.probe(h, s, step);
    }
    M model;
  };
  std::shared_ptr<const Concept> self_;
};

/// {stage = name, option = ...}: the printed form of a stage whose options are its fields.
template <HasFields T>
Value stage_value(std::string_view name, const T& options) {
  return tagged_fields("stage", name, options);
}

/// The same of a bracket, with the stage inside.
template <HasFields T>
Value bracket_value(std::string_view name, const T& options, const Stage& inner) {
  Value table = stage_value(name, options);
  table["inner"] = inner.to_value();
  return table;
}

/// Stages one after another. Two stages of one name are refused; `named` tells them apart.
Stage chain(std::vector<Stage> stages);
/// The same stage under another name: its state is kept under that name.
Stage named(std::string name, Stage stage);
/// U = u. (A copy, as every stage's result.)
Stage identity();

}  // namespace schatten
