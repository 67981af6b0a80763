"""Studies: each recipe is run with each seed, and the runs are compared in statistics, tables and figures."""
