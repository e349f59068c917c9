"""`make doctor`: what would fail, and how to mend it, before hours are spent on it."""
