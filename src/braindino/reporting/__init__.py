"""Pages and figures, from tables."""
