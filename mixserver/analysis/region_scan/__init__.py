"""Cost and force error of a case for many core radii and blend widths."""
