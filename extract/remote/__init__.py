"""Inputs that are not files of this disk: behind URLs, and in tars."""
