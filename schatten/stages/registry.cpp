#include <schatten/stages/adafactor.h>
#include <schatten/stages/adagrad.h>
#include <schatten/stages/adam_8bit.h>
#include <schatten/stages/adam_mini.h>
#include <schatten/stages/adaptive.h>
#include <schatten/stages/ademamix.h>
#include <schatten/stages/alternate.h>
#include <schatten/stages/apollo.h>
#include <schatten/stages/cosmos.h>
#include <schatten/stages/dion.h>
#include <schatten/stages/fira.h>
#include <schatten/stages/gum.h>
#include <schatten/stages/in_blocks.h>
#include <schatten/stages/in_eigenbasis.h>
#include <schatten/stages/in_subspace.h>
#include <schatten/stages/lion.h>
#include <schatten/stages/masks.h>
#include <schatten/stages/momentum.h>
#include <schatten/stages/normalize_rows.h>
#include <schatten/stages/normalize_variance.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/scaling.h>
#include <schatten/stages/schatten_descent.h>
#include <schatten/stages/shampoo.h>
#include <schatten/stages/sign_between.h>
#include <schatten/stages/sophia.h>
#include <schatten/stages/spectral.h>
#include <schatten/stages/spectral_power.h>
#include <schatten/stages/variance_reduction.h>
#include <schatten/stages/vectors_apart.h>

namespace schatten {

namespace {

template <HasFields Options>
StageInfo entry(std::string name, std::string summary, Stage (*make)(const Options&)) {
  return {name, std::move(summary), field_help<Options>(), [name, make](const Value& table) {
            Options options;
            read_fields(table, options, name);
            return make(options);
          }};
}

struct NoOptions {
  void fields(auto&&) {}
};

/// A stage around another: the key `inner` is a stage or a chain, Adam's scaling where it is missing.
template <HasFields Options>
[[maybe_unused]] StageInfo bracket(std::string name, std::string summary, Stage (*make)(const Options&, Stage inner)) {
  std::vector<FieldHelp> options = field_help<Options>();
  options.push_back({"inner", "scale_by_adam", "the stage or chain inside"});
  return {name, std::move(summary), std::move(options), [name, make](const Value& table) {
            Options read;
            read_fields(without(table, {"inner"}), read, name);
            const Value* inner = table.find("inner");
            return make(read, inner ? make_stage(*inner) : scale_by_adam({}));
          }};
}

/// Two stages in turns, the keys `on` and `between`; HTMuon's two where they are missing.
StageInfo turns(std::string name, std::string summary) {
  std::vector<FieldHelp> options = field_help<Alternate>();
  options.push_back({"on", "spectral_power", "the stage or chain of every k-th step"});
  options.push_back({"between", "orthogonalize", "the stage or chain of the others"});
  return {name, std::move(summary), std::move(options), [name](const Value& table) {
            Alternate read;
            read_fields(without(table, {"on", "between"}), read, name);
            const Value *on = table.find("on"), *between = table.find("between");
            return alternate(read, on ? make_stage(*on) : spectral_power({}),
                             between ? make_stage(*between) : orthogonalize({}));
          }};
}

Stage make_unnamed(const Value& table) {
  if (const Value* list = table.find("chain")) {
    std::vector<Stage> stages;
    for (const Value& item : list->as_array()) stages.push_back(make_stage(item));
    return chain(std::move(stages));
  }
  const Value* name = table.find("stage");
  if (!name)
    fail_usage({"stage", "a table with the key 'stage' or 'chain'", to_json(table),
                "For example { stage = \"ema\", beta = 0.95 }."});
  std::vector<std::string> known;
  for (const StageInfo& info : stage_registry()) {
    if (info.name == name->as_string()) return info.make(without(table, {"stage", "named"}));
    known.push_back(info.name);
  }
  fail_enum(*name, "", "stage", known);
}

}  // namespace

const std::vector<StageInfo>& stage_registry() {
  static const std::vector<StageInfo> registry{
      entry<NoOptions>("identity", "U = G", [](const NoOptions&) { return identity(); }),
      entry<Ema>("ema", "exponential moving average of the gradient", ema),
      entry<HeavyBall>("heavy_ball", "momentum as a sum", heavy_ball),
      entry<ScaleByAdam>("scale_by_adam", "first moment over root of second", scale_by_adam),
      entry<ScaleByAdagrad>("scale_by_adagrad", "over the root of the sum of squares", scale_by_adagrad),
      entry<ScaleByAdamMini>("scale_by_adam_mini", "Adam with a second moment per block", scale_by_adam_mini),
      entry<ScaleByAdemamix>("scale_by_ademamix", "Adam with a second, slower average", scale_by_ademamix),
      entry<ScaleBySophia>("scale_by_sophia", "momentum over a diagonal of the Hessian", scale_by_sophia),
      entry<LionMomentum>("lion_momentum", "one buffer mixed at two rates", lion_momentum),
      entry<VarianceReduction>("variance_reduction", "the gradient and its change, clipped", variance_reduction),
      bracket<VectorsApart>("vectors_apart", "vectors take a stage of their own", vectors_apart),
      entry<Orthogonalize>("orthogonalize", "singular values towards 1 (Newton-Schulz)", orthogonalize),
      entry<OrthogonalizeLargest>("orthogonalize_largest", "the largest rows only, the rest waits",
                                  orthogonalize_largest),
      entry<LowRankPolar>("low_rank_polar", "an orthogonal update of low rank, with error feedback", low_rank_polar),
      entry<NormalizeVariance>("normalize_variance", "rows or entries by their running mean squares",
                               normalize_variance),
      entry<NormalizeRows>("normalize_rows", "rows of unit length", normalize_rows),
      bracket<SignBetween>("sign_between", "a stage every P-th step, signs between", sign_between),
      bracket<InBlocks>("in_blocks", "a stage on each head or fused part", in_blocks),
      entry<SpectralPower>("spectral_power", "singular values to the power p", spectral_power),
      entry<SchattenDescent>("schatten_descent", "steepest descent under a Schatten norm", schatten_descent),
      turns("alternate", "one direction every k steps, another between"),
      entry<Shampoo>("shampoo_precondition", "roots of second moments of rows and columns", shampoo_precondition),
      bracket<InEigenbasis>("in_eigenbasis", "a stage in the eigenbasis of Shampoo's statistics", in_eigenbasis),
      entry<AdamCorrection>("adam_correction", "Adam's bias corrections alone", adam_correction),
      entry<Cosmos>("cosmos_direction", "Adam in a leading subspace, Muon outside it", cosmos_direction),
      entry<ScaleByShape>("scale_by_shape", "a factor of the matrix shape", scale_by_shape),
      entry<Scale>("scale", "a constant factor", [](const Scale& o) { return scale(o.factor); }),
      entry<Cautious>("cautious", "only entries that go where the gradient goes", cautious),
      entry<Sign>("sign", "signs of the entries", [](const Sign&) { return sign(); }),
      entry<NormalizeUpdate>("normalize_update", "Frobenius norm of an orthogonal update",
                             [](const NormalizeUpdate&) { return normalize_update(); }),
      entry<ScaleByAdafactor>("scale_by_adafactor", "a second moment per row and per column", scale_by_adafactor),
      entry<ScaleByAdam8bit>("scale_by_adam_8bit", "Adam with moments in 8-bit codes", scale_by_adam_8bit),
      bracket<InSubspace>("in_subspace", "a stage on the leading singular directions", in_subspace),
      bracket<SubspaceAndResidual>("subspace_and_residual", "a stage in a subspace, the scaled gradient outside",
                                   subspace_and_residual),
      bracket<InRandomSubspace>("in_random_subspace", "a stage in a subspace or, at times, outside of it",
                                in_random_subspace),
      bracket<ScaleChannelsLike>("scale_channels_like", "G with the channel sizes of a small stage's update",
                                 scale_channels_like),
      entry<LimitNormGrowth>("limit_norm_growth", "at most 1 % more norm than the step before", limit_norm_growth),
  };
  return registry;
}

Stage make_stage(const Value& table) {
  Stage stage = make_unnamed(table);
  if (const Value* name = table.find("named")) return named(name->as_string(), std::move(stage));
  return stage;
}

}  // namespace schatten
