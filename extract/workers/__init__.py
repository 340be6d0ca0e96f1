"""Decoding in processes: a pool of workers that are replaced when they crash or hang."""
