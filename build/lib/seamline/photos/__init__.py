"""Photos as a user names them: found, read, predicted, and what is written of them."""
