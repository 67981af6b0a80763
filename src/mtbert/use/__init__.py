"""Using a trained model: answers, scores, files."""
