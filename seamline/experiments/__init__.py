"""Experiments compared, searched and repeated with other seeds."""
