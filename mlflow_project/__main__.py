"""`python -m mlflow_project`."""

from mlflow_project.cli.main import main

main()
