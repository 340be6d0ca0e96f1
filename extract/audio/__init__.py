"""Sound to windows to CLAP features to cache."""
