"""A recipe: everything a run is, as validated data."""
