"""Synthetic subjects from real anatomy, with every label known and every effect size a documented parameter."""
