"""Reads and checks params.yaml: the loader, its sentences, and what sections are made of."""
