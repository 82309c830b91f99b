"""Dispatch of jobs to workers: the scheduler, its policy, and the listeners. No physics."""
