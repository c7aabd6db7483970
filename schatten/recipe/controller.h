// Controller: what sees several parameters between steps. It writes weights (QK-clip) or per-parameter numbers
// (AlphaDecay's decays); what it writes is the optimizer's state, the controller itself is a value without any.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/tensor.h>
#include <schatten/parameters/decay.h>

#include <concepts>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace schatten {

/// One parameter as a controller sees it: its weight in its own shape, and the decay that replaces the recipe's.
struct Controlled {
  const ParameterInfo& info;
  Tensor weight;
  std::optional<double>& weight_decay;
  double lambda = 0;   // the recipe's
  bool routed = true;  // to the controller's recipe: false only for those that ask to see all
};

/// What models have to tell: per transformer block, by name ("largest_logits": one number per head).
using Observations = std::map<std::string, std::map<int, Tensor>>;

template <class M>
concept ControllerModel =
    std::copyable<M> && requires(const M& m, std::vector<Controlled>& all, const Observations& seen, int64_t step) {
      { m.name() } -> std::convertible_to<std::string>;
      { m.wants() } -> std::convertible_to<std::string>;  // the observation it goes by; "" for none
      { m.to_value() } -> std::same_as<Value>;
      m.after_step(all, seen, step);  // step: how many updates there have been
    };

/// Type-erased value of any ControllerModel.
class Controller {
 public:
  template <class M>
    requires(!std::same_as<std::remove_cvref_t<M>, Controller> && ControllerModel<M>)
  Controller(M model) : self_(std::make_shared<const Holder<M>>(std::move(model))) {}  // NOLINT: a model is one

  std::string name() const { return self_->name(); }
  std::string wants() const { return self_->wants(); }
  /// The table that make_controller reads back.
  Value to_value() const { return self_->to_value(); }
  /// Whether it sees the parameters of other recipes, too (QK-clip: a bias belongs to its matrix). A model says so by a
  /// member sees_all().
  bool sees_all() const { return self_->sees_all(); }
  /// Refuses a recipe's decay that it cannot work with. A model says so by a member check(decay).
  void check(const Decay& decay) const { self_->check(decay); }
  /// After the update of all parameters that share the recipe.
  void after_step(std::vector<Controlled>& all, const Observations& seen, int64_t step) const {
    self_->after_step(all, seen, step);
  }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual std::string name() const = 0;
    virtual std::string wants() const = 0;
    virtual Value to_value() const = 0;
    virtual bool sees_all() const = 0;
    virtual void check(const Decay&) const = 0;
    virtual void after_step(std::vector<Controlled>&, const Observations&, int64_t) const = 0;
  };
  template <class M>
  struct Holder final : Concept {
    explicit Holder(M m) : model(std::move(m)) {}
    std::string name() const override { return model.name(); }
    std::string wants() const override { return model.wants(); }
    Value to_value() const override { return model.to_value(); }
    bool sees_all() const override {
      if constexpr (requires { model.sees_all(); }) return model.sees_all();
      else return false;
    }
    void check(const Decay& decay) const override {
      if constexpr (requires { model.check(decay); }) model.check(decay);
    }
    void after_step(std::vector<Controlled>& all, const Observations& seen, int64_t step) const override {
      model.after_step(all, seen, step);
    }
    M model;
  };
  std::shared_ptr<const Concept> self_;
};

}  // namespace schatten
