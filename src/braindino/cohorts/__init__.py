"""Cohorts: datasets with subjects and labels. One file each, reading the published layout; nothing is downloaded.

Contract: a module defines `SOURCE` (what it is, where to get it), `TERMS` (licence or access terms) and
`cases(root: Path, tell: Tell = note) -> tuple[Case, ...]`: every session with its scans and its row of participant
columns, by the names and units of docs/cohorts.md. Only names and tables are read, no voxels.

`cases` raises ValueError saying what is missing where the folder does not fit. Whatever it leaves out, decides or
finds in conflict it passes to `tell`, one line per kind with every name: the default prints to stderr, `braindino
check COHORT=PATH` lists all of it. The result is a function of the files alone, not of the order of rows or folders.

`participant["family"]` names people who are related, or one person under two ids; splits keep a family together.
`participant["also_in"]` ("cohort/subject") names the same person elsewhere; `prepare` looks for both names.
"""
