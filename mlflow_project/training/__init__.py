"""One configuration as one MLflow run: what it logs, how it starts, how it resumes."""
