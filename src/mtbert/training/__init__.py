"""Training: turns a recipe into a trained model in the folder of a run."""
