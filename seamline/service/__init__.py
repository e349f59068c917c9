"""The service: a photo in, garments out, over HTTP."""
