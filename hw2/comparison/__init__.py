"""Paired statistics over several models' predictions on the same images, and the findings in words."""
