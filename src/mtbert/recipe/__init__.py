"""Recipes: the complete, validated description of a run."""
