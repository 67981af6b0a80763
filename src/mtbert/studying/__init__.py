"""Many runs compared: recipes times seeds, with statistics, tables and figures."""
