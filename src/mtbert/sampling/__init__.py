"""Whose turn it is, and which rows: both are functions of the seed and of how far the run is."""
