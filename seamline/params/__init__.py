"""The sections of params.yaml, a module each; loading/ reads them."""
