"""Stored runs compared; registered models evaluated on outlier images."""
