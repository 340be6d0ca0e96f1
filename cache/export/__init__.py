"""Cached features in the formats of other programs: `formats.FORMATS` lists them, `run.Export` writes them."""
