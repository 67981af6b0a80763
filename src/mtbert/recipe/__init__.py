"""Recipes: a recipe is the complete, validated description of a run."""
