// A bracket: any stage on the gradient's projection onto a few of its singular directions.
#pragma once
#include <schatten/linalg/multiply.h>
#include <schatten/linalg/subspace.h>
#include <schatten/stages/stage.h>

namespace schatten {

/// Which directions are kept: std those of the smaller side (square: right), reverse_std those of the larger one.
enum class SubspaceType { std, reverse_std, left, right, full };
constexpr auto enum_names(SubspaceType) {
  return std::to_array<std::string_view>({"std", "reverse_std", "left", "right", "full"});
}

/// What becomes of the inner stage's moments when the basis changes.
enum class AtRefresh {
  keep,       // they stay as numbers, in coordinates that are no longer theirs (GaLore)
  transport,  // slots that follow rotations move by P_new^T P_old
  reset,      // all start anew, and so does the count of steps
};
constexpr auto enum_names(AtRefresh) { return std::to_array<std::string_view>({"keep", "transport", "reset"}); }

/// What every option `refresh` is.
inline constexpr const char* kRefreshHelp =
    "how directions are found: gram (the SVD's energy, faster), svd, randomized (fastest, a little less energy)";

/// Runs `inner` on r directions P of the gradient, the leading singular ones at every T-th step.
///   t mod T = 0   P = the r leading left (U [m, r]) or right (V [n, r]) singular vectors of G, before they are used;
///                 each column has the sign that is nearer to its predecessor
///   left   R = U^T G    [r, n]     U = alpha U inner(R)
///   right  R = G V      [m, r]     U = alpha inner(R) V^T
///   full   R = U^T G V  [r, r]     U = alpha U inner(R) V^T
///   complement: + stage(G - P P^T G), what the subspace leaves out
/// The inner stage sees a parameter of R's shape, whose W it cannot read.
/// State     P [m, r] or [n, r] (full: P_left, P_right); inner/..: the inner stage's for R; complement/.. .
/// Locality  matrix; every T steps the directions are sought: see Leading for what each way costs and finds.
/// Source    GaLore: Zhao et al. 2024, arXiv:2403.03507, code jiaweizzhao/GaLore@2cc66f8.
/// Differs   signs of a basis do not depend on LAPACK; the side is remembered (the code's shape test fails for
///           reverse_std on wide matrices with r >= m); r larger than the smaller side is refused, not cut; directions
///           from a Gram matrix (`refresh = "svd"`: as there).
/// Checked   parity/galore_*, identity/subspace_*, identity/refresh_*, law/*.
struct InSubspace {
  double rank = 0.25;
  int refresh_every = 200;
  Leading refresh = Leading::gram;
  SubspaceType type = SubspaceType::std;
  double scale = 1;
  AtRefresh moments = AtRefresh::keep;
  Products products = Products::automatic;
  Value complement = "none";
  void fields(auto&& visit) {
    visit("rank", rank, "directions: >= 1 that many, below 1 that share of the smaller side");
    visit("refresh_every", refresh_every, "steps between two searches for directions");
    visit("refresh", refresh, kRefreshHelp);
    visit("type", type, "std (the smaller side), reverse_std, left, right, full");
    visit("scale", scale, "alpha, on the way back");
    visit("moments", moments, "at a refresh: keep, transport, reset");
    visit("products", products, kProductsHelp);
    visit("complement", complement, "a stage or chain for what the subspace leaves out, or none");
  }
};
Stage in_subspace(const InSubspace& options, Stage inner);

// --- what the brackets around subspaces share ---

/// The small matrix inside: [rank, cols], [rows, rank] or [rank, rank].
struct SubspaceShape {
  int64_t rows = 0, cols = 0, rank = 0;
  bool left = false, right = false;
  int64_t small_rows() const { return left ? rank : rows; }
  int64_t small_cols() const { return right ? rank : cols; }
};
/// Refuses ranks larger than the smaller side. Of no matrix ({0, 0}): nothing.
SubspaceShape subspace_shape(std::string_view who, double rank, SubspaceType type, int64_t rows, int64_t cols);
/// Refuses what can be no rank whatever the matrix, and no period.
void check_subspace(std::string_view who, double rank, int refresh_every);
/// Refuses stages that read W, which is not projected, with the way out.
void check_inside(std::string_view who, const Stage& inner);
/// The same, for brackets that hand no probe on.
void check_inside_without_probe(std::string_view who, const Stage& inner);
/// Refuses `full`: one side has to keep its channels.
void check_one_side(std::string_view who, SubspaceType type);

/// Directions as columns; an undefined side is left as it is.
struct Bases {
  Tensor left, right;  // [m, r], [n, r]
  Products products = Products::float32;
  Isa isa = Isa::portable;
  Tensor project(const Tensor& g) const;
  Tensor back(const Tensor& r) const;
  Tensor outside(const Tensor& g) const;  // g - back(project(g))
};
std::vector<SlotSpec> basis_slots(const SubspaceShape& shape, at::ScalarType dtype);
/// Those in the slots.
Bases bases_in(State& s, const SubspaceShape& shape, const Step& step, Products products = Products::float32);
/// The leading singular directions of g, put into the slots; returns what was there.
Bases refresh_bases(const Tensor& g, State& s, const SubspaceShape& shape, Leading how, const Step& step);
/// Refuses state that cannot turn with a basis: slots that follow rotations must be one matrix of the small shape.
void check_transport(std::string_view who, const StateSpec& inner, const SubspaceShape& shape);
/// Moves every inner slot that follows rotations from the old coordinates into the new ones.
void transport(State& inner, const Bases& before, const Bases& now);

/// The parameter as a stage inside sees it: of the small shape, its rows no heads any more.
ParameterInfo seen_inside(const ParameterInfo& parameter, const SubspaceShape& shape);
/// The same step as a stage inside is told of it: its own parameter and gradient, no W.
Step step_inside(const Step& step, const ParameterInfo& parameter, const Tensor& grad);
/// What the stage inside says of the small matrix.
std::string decided_inside(const Stage& inner, const Bucket& b, Isa isa, const SubspaceShape& shape);
/// What a bracket says of its products, and then of the stage inside.
std::string with_products(Products products, const Bucket& b, Isa isa, const std::string& inside);
/// The declaration with shapes spelt out where they were the matrix's.
StateSpec with_shape(StateSpec spec, int64_t rows, int64_t cols, bool resizes = false);
/// An inner stage's state for the small matrix.
StateSpec state_inside(const Stage& inner, const Bucket& b, const SubspaceShape& shape);

}  // namespace schatten
