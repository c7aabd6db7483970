// What `schatten recipes` shows.
#pragma once
#include <schatten/papers/registry.h>
#include <schatten/stages/registry.h>

#include <string>

namespace schatten {

/// Every recipe by group, the stages, and what goes beside any recipe.
void print_recipes();
/// Formula, source, state, options and chain of one; UsageError with the nearest name.
void explain_recipe(const std::string& name);
/// Bytes of state for a model preset: matrices by the recipe, everything else by AdamW, in float32.
void print_recipe_memory(const std::string& preset);
/// The polynomial schedules of Newton-Schulz: where singular values come from, and end.
void print_schedules();
/// Everything about a recipe, or a stage, as one table.
Value described(const RecipeInfo& recipe);
Value described(const StageInfo& stage);

}  // namespace schatten
