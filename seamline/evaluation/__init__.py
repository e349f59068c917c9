"""COCO's average precision, its intervals, slices, curves and mistakes."""
