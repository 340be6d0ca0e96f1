"""Cached features in the formats that others read: `formats.FORMATS` lists them, `run.Export` writes them."""
