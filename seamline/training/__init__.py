"""Trainings that survive a kill, and those that are finished and kept."""
