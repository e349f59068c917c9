"""Masks: polygons and RLE, rasters, the one closed polygon that a trainer fills, and YOLO label lines."""
