"""The files that mtbert writes and reads again: model folders, run states and predictions."""
