"""The sections of params.yaml, a module each, and their loader."""
