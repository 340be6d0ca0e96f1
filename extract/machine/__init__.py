"""Whether this machine is ready to extract, and which models there are."""
