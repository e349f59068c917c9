"""Models timed side by side, on a machine that is described."""
