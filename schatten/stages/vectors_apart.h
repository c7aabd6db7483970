// A bracket that gives vectors a stage of their own.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Matrices take one stage, vectors another, at another rate: for optimizers that are published as a pair.
///   matrix:  U = inner(G);    vector:  U = vectors(G), the step (decay included) taken at `rate` times lr
/// Which of the two is decided by the parameter's own shape: 2 dimensions or more are a matrix.
/// State     that of the stage in use.   Locality  what either needs.
/// Source    AGI-Arena/MARS@4831e28.   Checked  parity/mars_*, identity/mars_*, law/*.
struct VectorsApart {
  Value vectors = Value::Table{{"stage", "scale_by_adam"}};
  double rate = 1;
  bool conv = false;
  void fields(auto&& visit) {
    visit("vectors", vectors, "the stage or chain of the vectors");
    visit("rate", rate, "their rate as a share of lr");
    visit("conv", conv, "convolution filters go with the vectors");
  }
};
Stage vectors_apart(const VectorsApart& options, Stage matrices);

}  // namespace schatten
