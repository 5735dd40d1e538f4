"""The service: everything that speaks MLflow, or to a person."""
