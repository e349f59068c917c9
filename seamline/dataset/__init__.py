"""A canonical dataset chosen from, converted for the trainer, and split without leaks."""
