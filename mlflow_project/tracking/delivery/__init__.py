"""Uploads journals to MLflow in order and idempotently; tells transient from permanent errors."""
