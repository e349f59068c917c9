"""The typed sections of params.yaml, and their loader."""
