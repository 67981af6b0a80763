"""Use of a trained model: its answers about texts, its scores, and the files that hold them."""
