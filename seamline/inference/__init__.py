"""Detector: images in, instances out, the same way for every format; and the predictions of a split."""
