"""What is kept on disk: model folders, the state of a run, predictions."""
