"""One video file, no processes: its index, its frames decoded exactly, resized and measured."""
