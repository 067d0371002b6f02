"""Blocks of a result for Dask: as a lazy array, or written by the workers of a scheduler."""
