"""videos to frames to CLIP features to cache."""
