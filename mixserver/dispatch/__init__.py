"""Who is asked what: the job board, its policy, and the doors workers come in by. No physics."""
