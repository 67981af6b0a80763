"""Drafting a recipe: looking at files that no recipe describes yet, guessing what they hold, and writing it down."""
