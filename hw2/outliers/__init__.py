"""Outlier scores, the detector that ships with each model, outlier image sets and their metrics."""
