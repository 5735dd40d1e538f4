"""Time and memory against what grows."""
