"""Errors, names stored in MLflow, store addresses, signals, text and tables: knows neither MLflow nor hw2."""
