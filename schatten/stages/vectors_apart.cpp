#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/registry.h>
#include <schatten/stages/vectors_apart.h>

namespace schatten {

namespace {

struct VectorsApartModel {
  VectorsApart options;
  Stage matrices, vectors;

  bool is_vector(const ParameterInfo& p) const { return p.shape.size() < 2 || (options.conv && p.shape.size() > 2); }
  const Stage& stage_of(const ParameterInfo& p) const { return is_vector(p) ? vectors : matrices; }

  std::string name() const { return "vectors_apart"; }
  Traits traits() const {
    Traits both = matrices.traits() | vectors.traits();
    both.takes_vectors = vectors.traits().takes_vectors;
    return both;
  }
  StateSpec state(const Bucket& b) const { return {.name = name(), .children = {stage_of(*b.parameter).state(b)}}; }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    if (is_vector(step.parameter)) take_at(step, options.rate);
    return stage_of(step.parameter).apply(u, s.child(0), step);
  }
  void probe(const Tensor& h, State& s, const Step& step) const { stage_of(step.parameter).probe(h, s.child(0), step); }
  Value to_value() const { return bracket_value(name(), options, matrices); }
  std::string decided(const Bucket& b, Isa isa) const {
    return b.parameter ? stage_of(*b.parameter).decided(b, isa)
                       : both(matrices.decided(b, isa), vectors.decided(b, isa));
  }
  std::string noticed() const { return both(matrices.noticed(), vectors.noticed()); }

  static std::string both(const std::string& matrix, const std::string& vector) {
    return vector.empty() ? matrix : (matrix.empty() ? "" : matrix + ", ") + "vectors: " + vector;
  }
};

}  // namespace

Stage vectors_apart(const VectorsApart& o, Stage matrices) {
  check_non_negative("vectors_apart", "rate", o.rate);
  VectorsApartModel model{o, std::move(matrices), make_stage(o.vectors)};
  model.options.vectors = model.vectors.to_value();
  return model;
}

}  // namespace schatten
