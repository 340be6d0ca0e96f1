"""What the bytes of a file say about itself: whether it was cut short, whether it is encrypted."""
