"""How good the results are, and whether what is promised of them holds."""
