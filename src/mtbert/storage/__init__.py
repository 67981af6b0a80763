"""The files that mtbert keeps: model folders, run states and predictions."""
