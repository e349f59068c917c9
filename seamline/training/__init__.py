"""Trainings that survive a kill: one trainer a family, and the store of those that are finished."""
