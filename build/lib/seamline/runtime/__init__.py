"""One detector for every model format: the same preprocessing, NMS and mask decoding around three engines."""
