#include <schatten/papers/alpha_decay.h>

#include <string>

namespace schatten {

namespace {

struct AlphaDecayModel {
  AlphaDecayControl options;

  std::string name() const { return "alpha_decay"; }
  std::string wants() const { return ""; }
  Value to_value() const { return tagged_fields("controller", name(), options); }
  void check(const Decay& decay) const {
    if (!decay.active())
      fail_usage({"alpha_decay", "a weight decay to distribute", "weight_decay = 0",
                  "Set weight_decay = 0.1, or drop the controller."});
  }
  void after_step(std::vector<Controlled>& all, const Observations&, int64_t step) const {
    if (step % options.every != 0) return;
    std::vector<AlphaModule> modules;
    std::vector<Controlled*> matrices;
    AlphaDecayOptions assign = options.assign;
    assign.skip_last = false;
    for (Controlled& c : all) {
      if (c.info.role != Role::hidden_matrix && c.info.role != Role::head) continue;
      const PowerLawFit fit = fit_power_law(eigenvalue_spectrum(c.weight), options.fit);
      modules.push_back({.alpha = fit.alpha, .eigenvalues = fit.eigenvalues, .layer = c.info.block});
      matrices.push_back(&c);
      assign.skip_last = options.assign.skip_last && c.info.role == Role::head;
    }
    if (modules.empty()) return;
    const std::vector<ModuleDecay> decays = assign_decays(modules, matrices.front()->lambda, assign);
    for (size_t i = 0; i < matrices.size(); ++i) matrices[i]->weight_decay = decays[i].weight_decay;
  }
};

}  // namespace

Controller alpha_decay_control(const AlphaDecayControl& o) {
  if (o.every < 1) fail_usage({"alpha_decay", "every >= 1", std::to_string(o.every), "500 is the paper's."});
  return AlphaDecayModel{o};
}

}  // namespace schatten
