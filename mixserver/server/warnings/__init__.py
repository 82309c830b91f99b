"""Warnings about a run while it goes on: what is looked at, and where it is written."""
