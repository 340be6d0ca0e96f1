"""Whether this machine is ready, and what it can compute with."""
