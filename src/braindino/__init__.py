"""BrainDINO."""
