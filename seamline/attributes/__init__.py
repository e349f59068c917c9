"""Attributes of garments: their labels read from a CSV or from annotations, looked at, and learned."""
