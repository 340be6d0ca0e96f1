"""cached features to similarities and statistics."""
