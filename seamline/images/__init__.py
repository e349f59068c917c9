"""Images: reading them, what is drawn into them, and the letters of names in them."""
