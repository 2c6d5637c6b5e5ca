"""Slices on disk: `shards` is the only file that knows the format, `build` makes them."""
