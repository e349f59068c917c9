"""One predictor for every model format: the same preprocessing, NMS and mask decoding around three engines."""
