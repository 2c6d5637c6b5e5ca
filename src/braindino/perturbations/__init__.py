"""Perturbations: simulated acquisition changes, applied before preprocessing. One file each.

Contract: a module defines `apply(volume: Volume, severity: int, seed: int) -> Volume` with severity 0 to 5, 0 being the
identity, and a constant table of the physical value per severity.
"""
