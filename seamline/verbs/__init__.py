"""The verbs of `seamline`: a module each, whose main() takes the words after the verb; cli.py lists them."""
