"""What mtbert keeps on disk: model folders, run states and predictions."""
