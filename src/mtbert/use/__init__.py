"""Use of a trained model: its answers to texts, its scores, and the files that hold them."""
