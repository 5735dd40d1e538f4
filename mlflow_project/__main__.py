"""`python -m mlflow_project`."""

from mlflow_project.cli import main

main()
