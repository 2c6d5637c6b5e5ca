"""Layouts: how published datasets lie on disk, and how their spreadsheets are read. File names and cells, no voxels.

What several cohort plug-ins need stands here, since plug-ins do not import each other.
"""
