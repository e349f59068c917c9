"""Seamline: from a bucket of garment photos to a segmentation model one can deploy and trust."""

__version__ = "0.9.0"
