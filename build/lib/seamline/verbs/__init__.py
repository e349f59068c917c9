"""The verbs of `seamline`: a module each, with a main() that takes the words behind the verb; cli.py lists them."""
