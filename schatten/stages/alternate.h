// Two directions in turns.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Every k-th step goes one way, the steps between another.
///   U = on(X)  where t mod every = phase mod every,  else between(X)                          [.., m, n]
/// t counts the parameter's own updates from 1, so phase 0 means the steps k, 2k, ..; the first k - 1 go by `between`.
/// Each of the two counts its own steps: a bias correction inside sees only the steps that it was asked for.
/// State     on/.., between/..: what the two have.   Locality  the larger of the two.
/// Source    HTMuon, arXiv:2603.10067 (interval), code TDCSZ327/HTmuon@fa85e59.
/// Checked   parity/htmuon_interval*, htmuon_ns_interval*, htnormuon_interval*, identity/alternate_*, law/*.
struct Alternate {
  int every = 5;
  int phase = 0;
  void fields(auto&& visit) {
    visit("every", every, "period k >= 1");
    visit("phase", phase, "which of k steps: 0 is the last one");
  }
};
Stage alternate(const Alternate& options, Stage on, Stage between);

}  // namespace schatten
