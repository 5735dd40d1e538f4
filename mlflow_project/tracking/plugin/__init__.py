"""MLflow's plug-in for `MLFLOW_TRACKING_URI=durable+<address>`: the journal and the delivery, for any program."""
