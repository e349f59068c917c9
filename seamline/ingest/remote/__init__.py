"""Objects of a store, on S3 or the web, brought to this machine."""
