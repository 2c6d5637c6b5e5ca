"""Metrics, intervals, comparisons: tables in, numbers out. No torch."""
