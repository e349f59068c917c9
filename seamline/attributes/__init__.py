"""Attributes of garments: data, heads, losses with missing labels, calibration, evaluation, exports."""
