"""A trained model in other formats, each shown to predict what it predicted."""
