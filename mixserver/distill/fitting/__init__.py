"""From labels and descriptor rows to coefficients."""
