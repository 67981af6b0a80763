"""Training: from a recipe to a run in a folder."""
