"""Encoders: a volume in, tokens out. One file each.

Contract: a module defines `load(weights: Path | None, *, seed: int = 0, variant: str = "") -> Encoder` (see
`types.Encoder`): strict loading, evaluation mode, no gradient. A constant `VARIANTS: tuple[str, ...]` names its
variants; the first is the default, which "" means; an unknown one is a ValueError (`catalog.chosen`). Where there are
several, the encoder's attribute `variant` says which one it is, and tables name it (`stats.names`). An encoder
without weights refuses those that are given; one with weights refuses None.
"""
