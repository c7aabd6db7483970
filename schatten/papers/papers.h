// The registry: a new paper is its own file and two lines here.
#pragma once
#include <schatten/papers/adagrad.h>
#include <schatten/papers/adam_mini.h>
#include <schatten/papers/adamuon.h>
#include <schatten/papers/adamw.h>
#include <schatten/papers/ademamix.h>
#include <schatten/papers/alpha_decay.h>
#include <schatten/papers/apollo.h>
#include <schatten/papers/cautious.h>
#include <schatten/papers/cosmos.h>
#include <schatten/papers/dion.h>
#include <schatten/papers/fira.h>
#include <schatten/papers/galore.h>
#include <schatten/papers/gum.h>
#include <schatten/papers/htadamuon.h>
#include <schatten/papers/htmuon.h>
#include <schatten/papers/htnormuon.h>
#include <schatten/papers/lion.h>
#include <schatten/papers/lion_muon.h>
#include <schatten/papers/mars.h>
#include <schatten/papers/muon.h>
#include <schatten/papers/muonclip.h>
#include <schatten/papers/normuon.h>
#include <schatten/papers/rmnp.h>
#include <schatten/papers/rmsprop.h>
#include <schatten/papers/schatten_descent.h>
#include <schatten/papers/sgd.h>
#include <schatten/papers/shampoo.h>
#include <schatten/papers/sign_muon.h>
#include <schatten/papers/simple_muon.h>
#include <schatten/papers/soap.h>
#include <schatten/papers/sophia.h>

namespace schatten {

/// In the order in which `schatten recipes` and the docs list them: by group, then by age.
inline std::vector<RecipeInfo> all_papers() {
  return {
      // element-wise
      sgd_info(),
      adagrad_info(),
      rmsprop_info(),
      adam_info(),
      adamw_info(),
      sign_muon_info(),
      lion_info(),
      sophia_info(),
      adam_mini_info(),
      ademamix_info(),
      mars_info(),
      c_adamw_info(),
      c_lion_info(),
      // orthogonalising
      muon_info(),
      muonclip_info(),
      c_muon_info(),
      normuon_info(),
      adamuon_info(),
      lion_muon_info(),
      rmnp_info(),
      dion_info(),
      dion2_info(),
      simple_muon_info(),
      // spectral power
      htmuon_info(),
      htnormuon_info(),
      htadamuon_info(),
      schatten_descent_info(),
      // second-order
      shampoo_info(),
      soap_info(),
      cosmos_info(),
      // low-rank
      galore_info(),
      fira_info(),
      apollo_info(),
      apollo_mini_info(),
      gum_info(),
      // layer-wise
      alpha_decay_info(),
  };
}

}  // namespace schatten
