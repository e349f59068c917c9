"""`make doctor`: what would fail, and how to fix it, before hours are spent."""
