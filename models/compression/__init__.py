"""Compressors: one file each, found by its `COMPRESSOR` (see `models.compression.compressor`)."""
