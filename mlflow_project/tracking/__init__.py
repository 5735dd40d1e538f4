"""Durable logging: a run's entities go to a journal on disk first and are uploaded from there."""
