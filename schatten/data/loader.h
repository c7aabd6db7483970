// Deterministic batches with a resumable position.
#pragma once
#include <schatten/core/rng.h>
#include <schatten/core/value.h>
#include <schatten/data/corpus.h>

#include <memory>

namespace schatten {

struct Batch {
  Tensor tokens, targets;  // [B, T] int64; targets are tokens shifted by one
};

/// Windows of T+1 tokens; epoch e visits each of the floor((size-1)/T) windows once, in an order
/// that is a pure function of (rng, e). The position is one integer, so resume and accumulation
/// cannot disturb it.
class Loader {
 public:
  Loader(std::shared_ptr<const Corpus> corpus, Split split, int64_t batch, int64_t context, Rng rng);
  Batch next();
  /// At most `count` batches for evaluation: windows spread evenly over the split, each once, the
  /// same for every rng. Where the split has fewer windows the batches are fewer and the last one
  /// shorter. Position untouched.
  std::vector<Batch> fixed_batches(int64_t count) const;
  int64_t position() const { return position_; }  // windows handed out so far
  void seek(int64_t position) { position_ = position; }
  double epochs() const;
  int64_t windows() const { return windows_; }

 private:
  Batch batch_at(int64_t position) const;
  std::shared_ptr<const Corpus> corpus_;
  Split split_;
  int64_t batch_, context_, windows_;
  Rng rng_;
  int64_t position_ = 0;
};

}  // namespace schatten
