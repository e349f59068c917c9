"""Detector: images in, detections out, the same way for every format; and the predictions of a split."""
