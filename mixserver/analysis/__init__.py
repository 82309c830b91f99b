"""What is looked at before and after a run: checks, bulk properties, drift, plots."""
