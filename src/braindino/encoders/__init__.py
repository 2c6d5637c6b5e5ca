"""Encoders: a volume in, tokens out. One file each.

Contract: a module defines `load(weights: Path, *, seed: int = 0) -> Encoder` (see `types.Encoder`): strict loading,
evaluation mode, no gradient.
"""
