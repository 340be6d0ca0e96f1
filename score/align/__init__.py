"""Whether the picture and the sound of a video belong together, without a caption."""
