"""The reference structure of a case, and whether what i-PI sends is that structure."""
