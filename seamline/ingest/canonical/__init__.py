"""The canonical dataset: one form of data, and what was repaired or dropped on the way."""
