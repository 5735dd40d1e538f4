"""What a person who knows MLflow does with our runs and models; no line of this project is needed.

Run cell by cell in an editor that knows `# %%`, or whole: python examples/tracked_runs.py
It asks the store that MLFLOW_TRACKING_URI names, and the registered model that is its first argument.
"""

# %% Where the runs are
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch

MODEL = sys.argv[1] if len(sys.argv) > 1 else "mnist-base-cnn"

# %% All completed runs as a table, the most accurate first
runs = mlflow.search_runs(
    experiment_names=["mnist-base-cnn"],
    filter_string="tags.status = 'completed' and metrics.test_accuracy > 0",
    order_by=["metrics.test_accuracy DESC"],
)
columns = ["test_accuracy", "test_accuracy_low", "test_accuracy_high"]
# As text: printed as it is, a table leaves columns out where the terminal is narrow, or where there is none.
print(runs[["tags.mlflow.runName", *(f"metrics.{name}" for name in columns)]].to_string())

# %% One metric over the epochs
client = mlflow.MlflowClient()
for point in client.get_metric_history(runs.loc[0, "run_id"], "validation_accuracy"):
    print(f"epoch {point.step}: {point.value:.4f}")

# %% The files of a run: its predictions for every test image
with tempfile.TemporaryDirectory() as folder:
    path = mlflow.artifacts.download_artifacts(
        run_id=runs.loc[0, "run_id"], artifact_path="predictions/test.parquet", dst_path=folder
    )
    predictions = pd.read_parquet(path)
    # The same in a shell: mlflow artifacts download --run-id RUN --artifact-path predictions --dst-path FOLDER
    options = ["--run-id", runs.loc[0, "run_id"], "--artifact-path", "predictions", "--dst-path", folder]
    subprocess.run([sys.executable, "-m", "mlflow", "artifacts", "download", *options], check=True)
    downloaded = sorted(file.name for file in Path(folder, "predictions").iterdir())
print("downloaded", *downloaded)
print(f"right: {(predictions['label'] == predictions['predicted']).mean():.4f} of {len(predictions):,}")

# %% The champion as a PyTorch module: images in, logits out
images = np.zeros((2, 28, 28), dtype=np.uint8)
images[1, 4:24, 13:16] = 255  # a bar: a one
module = mlflow.pytorch.load_model(f"models:/{MODEL}@champion")
print("logits", tuple(module(torch.from_numpy(images)).shape))

# %% The champion with its outlier score
# Over HTTP: mlflow models serve --model-uri models:/mnist-base-cnn@champion --env-manager local --port 5001
# answers the same to {"inputs": [[[0, ...], ...]]} posted to /invocations;
# tests/mlflow_project/packaging/test_pyfunc_model.py does so.
answers = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion").predict(images)
print(answers.to_string())

# %% What was deleted, removed for good; only where a store may be changed, so not here
# mlflow gc --backend-store-uri URL          tests/mlflow_project/cli/test_examples.py does so
