"""Model files: engines that run them, what they say of themselves, and how their outputs are decoded."""
