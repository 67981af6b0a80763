"""Using a trained model: its answers, its scores, and files of both."""
