"""MLflow's system metrics, logged by a thread of its own beside the program's own values."""

import time

import mlflow

mlflow.set_experiment("system")
mlflow.enable_system_metrics_logging()
mlflow.set_system_metrics_sampling_interval(0.3)
mlflow.set_system_metrics_samples_before_logging(2)
with mlflow.start_run(run_name="watched"):
    for step in range(50):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        time.sleep(0.1)
