"""Suffixes by which files are taken for videos and images, lower case with their dot."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .h264 .hevc .ivf .m1v .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts "
    ".mxf .nut .obu .ogm .ogv .rm .rmvb .ts .vob .webm .wmv .wtv .y4m".split()
)
