"""Sound -> windows -> CLAP features -> cache: the second kind of encoder."""
