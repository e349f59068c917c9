"""Where a source's objects are fetched from: S3 and the web."""
