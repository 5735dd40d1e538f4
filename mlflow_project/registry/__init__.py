"""Registered models: resolve, verify, load, promote."""
