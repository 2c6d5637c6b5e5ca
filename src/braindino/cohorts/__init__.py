"""Cohorts: datasets with subjects and labels. One file each, reading the published layout; nothing is downloaded.

Contract: a module defines `SOURCE` (what it is, where to get it), `TERMS` (licence or access terms) and
`cases(root: Path) -> tuple[Case, ...]`: every session with its scans and its row of the participants table.
Raises ValueError saying what is missing where the folder does not fit.
"""
