"""Studies: many runs, recipes times seeds, compared with statistics, tables and figures."""
