#pragma once
#include <schatten/papers/adamw.h>
#include <schatten/papers/recipe_info.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/normalize_rows.h>
#include <schatten/stages/scaling.h>

#include <cmath>

namespace schatten {

enum class RmnpVariant { package, llama, rnnp };
constexpr auto enum_names(RmnpVariant) { return std::to_array<std::string_view>({"package", "llama", "rnnp"}); }
struct RmnpOptions {
  RmnpVariant variant = RmnpVariant::package;
  double momentum = 0.95;
  MomentumForm momentum_form = MomentumForm::heavy_ball;
  bool nesterov = true;
  NormalizeRows rows{};
  ShapeScale shape = ShapeScale::jordan;
  double weight_decay = 0;
  DecayForm decay = DecayForm::decoupled;
  void fields(auto&& visit) {
    visit("variant", variant, "package, llama, rnnp: what the keys below default to");
    visit("momentum", momentum, "mu in [0, 1)");
    visit("momentum_form", momentum_form, "heavy_ball, ema");
    visit("nesterov", nesterov, "look one step ahead");
    visit("rows", rows, "the normalisation: eps, eps_mode");
    visit("shape", shape, "none, jordan, jordan_released, moonlight, bernstein");
    visit("weight_decay", weight_decay, "lambda");
    visit("decay", decay, "decoupled, after, coupled, cautious");
  }
};

/// The published settings of a variant.
inline RmnpOptions rmnp_variant(RmnpVariant variant) {
  RmnpOptions o{.variant = variant};
  if (variant == RmnpVariant::package) return o;
  o.momentum_form = MomentumForm::ema;
  o.weight_decay = 0.1;
  if (variant == RmnpVariant::rnnp) o.rows.eps_mode = EpsMode::add;
  return o;
}

/// RMNP: Muon's momentum with unit rows in place of an orthogonal matrix.
///   M <- mu M + G,   N = G + mu M                            [m, n]   (llama, rnnp: (1 - mu) G + mu M, both)
///   U_i = c(m, n) N_i / max(|N_i|, 1e-12)                    each row, c = sqrt(max(1, m/n))
///   W <- (1 - lr lambda) W - lr U
/// Variants  llama  averages for sums, lambda = 0.1;   rnnp  the same, N_i / (|N_i| + 1e-12).
/// State     momentum_buffer [m, n].
/// Locality  row.
/// Source    RMNP, code Dominator-Index/RMNP@a662ebc (rmnp.py, RMNP_optimizer.py); TDCSZ327/HTmuon@fa85e59 (RNNP).
/// Differs   conv filters are scaled by their flattened shape (`shape = "jordan_released"` for rnnp's code); a missing
///           gradient skips the step.
/// Checked   parity/rmnp_*, rnnp_*, identity/rmnp_*, law/*.
inline Recipe rmnp(const RmnpOptions& o) {
  check_share("rmnp", "momentum", o.momentum);
  return {.name = "rmnp",
          .direction = chain(
              {momentum(o.momentum_form, o.momentum, o.nesterov), normalize_rows(o.rows), scale_by_shape({o.shape})}),
          .decay = make_decay(o.decay, o.weight_decay)};
}

inline Replay replay_rmnp_package(const Value& h, ComputeDtype) {
  RmnpOptions o = rmnp_variant(RmnpVariant::package);
  o.momentum = real(h, "momentum");
  o.nesterov = flag(h, "nesterov");
  o.rows.eps = real(h, "norm_floor");
  o.weight_decay = real(h, "weight_decay");
  return {.routes = {{"any", rmnp(o), 1.0}}};
}

/// The scripts' auxiliary Adam decays by its bias-corrected step size.
inline Replay replay_rmnp_llama(const Value& h, ComputeDtype) {
  RmnpOptions o = rmnp_variant(RmnpVariant::llama);
  o.momentum = real(h, "beta");
  o.weight_decay = real(h, "weight_decay");
  if (!h.find("aux_params")) return {.routes = {{"any", rmnp(o), 1.0}}};
  const AdamwOptions aux{.beta1 = beta(h, 0, "aux_betas"),
                         .beta2 = beta(h, 1, "aux_betas"),
                         .eps = real(h, "aux_eps"),
                         .weight_decay = o.weight_decay,
                         .form = AdamForm::uncorrected_eps};
  return {.routes = with_auxiliary(h, "aux_params", adamw(aux), real(h, "aux_lr_factor"), rmnp(o)),
          .weight_decay = [aux, names = h.at("aux_params")](const ParameterInfo& p, int64_t t, bool) {
            std::optional<double> decay;
            const double steps = static_cast<double>(t) + 1;
            const double corrected = std::sqrt(1 - std::pow(aux.beta2, steps)) / (1 - std::pow(aux.beta1, steps));
            for (const Value& name : names.as_array())
              if (name.as_string() == p.name) decay = aux.weight_decay * corrected;
            return decay;
          }};
}

inline Replay replay_rnnp(const Value& h, ComputeDtype) {
  RmnpOptions o = rmnp_variant(RmnpVariant::rnnp);
  o.momentum = real(h, "momentum");
  o.nesterov = flag(h, "nesterov");
  o.rows.eps = real(h, "eps");
  o.shape = ShapeScale::jordan_released;
  o.weight_decay = real(h, "weight_decay");
  return {.routes = with_auxiliary_adam(h, rmnp(o)), .missing_is_zero = true};
}

inline RecipeInfo rmnp_info() {
  return recipe_row<RmnpOptions>(
      {.name = "rmnp",
       .group = Group::orthogonalizing,
       .summary = "momentum with rows of unit length: Muon without the iteration",
       .formula = "M <- mu M + G;  N = G + mu M;  U_i = sqrt(max(1, m/n)) N_i / |N_i|;  W <- (1 - lr lambda) W - lr U",
       .paper = "RMNP (Dominator-Index/RMNP); RNNP of TDCSZ327/HTmuon",
       .state = "mn",
       .tune = "lr (0.005 to 0.03), the rate of the vectors' AdamW",
       .published = {{"RMNP (package)", replay_rmnp_package},
                     {"RMNP (LLaMA scripts)", replay_rmnp_llama},
                     {"RNNP (HTMuon repository)", replay_rnnp}}},
      rmnp, [](const Value& table) {
        RmnpVariant variant = RmnpVariant::package;
        if (const Value* v = table.find("variant")) read_field(*v, "rmnp", "variant", variant);
        return rmnp_variant(variant);
      });
}

}  // namespace schatten
