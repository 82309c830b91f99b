"""Plots of runs, from their records alone."""
