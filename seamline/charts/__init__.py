"""Every picture that is not of one photo."""
