"""The service: photos in over HTTP, garments out, within limits that no caller can pass."""
