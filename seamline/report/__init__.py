"""What the reports say, as a page and a model card."""
