"""Search: the frames and moments of a whole cache that are nearest to a prompt, an image, or a sum of both."""
