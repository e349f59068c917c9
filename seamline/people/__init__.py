"""People first: each person cut out of the photo, garments found in each cut-out, and put together again."""
