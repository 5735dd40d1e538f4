"""MLflow's fluent interface from one end to the other: values, files, nested runs, a model, its registration."""

import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

STEPS = 60
chance = np.random.default_rng(0)
features = chance.normal(size=(200, 4))
labels = (features.sum(axis=1) > 0).astype(int)
frame = pd.DataFrame(features, columns=list("abcd"))

mlflow.set_experiment("fluent")
with mlflow.start_run(run_name="parent", tags={"team": "vision"}, description="a fluent program") as parent:
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"epochs": 3, "optimizer": "sgd", "note": "ü" * 100})
    mlflow.log_input(mlflow.data.from_pandas(frame, name="features"), context="training")
    for step in range(STEPS):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        if step % 10 == 0:
            mlflow.log_metrics({"accuracy": step / STEPS, "gap": -step / 7}, step=step)
        time.sleep(0.01)
    mlflow.log_metric("loss", 0.5, step=STEPS - 1)  # a step twice
    mlflow.log_metric("loss", 2.5, step=3)  # a step back
    mlflow.log_metric("odd", float("nan"), step=0)
    mlflow.log_metric("odd", float("inf"), step=1)
    mlflow.log_metric("odd", float("-inf"), step=2)
    mlflow.set_tag("state", "begun")
    mlflow.set_tags({"state": "half", "doomed": "yes", "empty": ""})
    mlflow.delete_tag("doomed")

    mlflow.log_text("first line\nsecond line ü\n", "notes/readme.txt")
    mlflow.log_dict({"classes": ["a", "b"], "mean": 0.5}, "config/data.yaml")
    figure, axes = plt.subplots()
    axes.plot(range(10))
    mlflow.log_figure(figure, "curve.png")
    plt.close(figure)
    mlflow.log_image(np.full((8, 8, 3), 128, np.uint8), "still.png")
    for step in range(2):
        mlflow.log_image(np.full((8, 8, 3), 40 * step, np.uint8), key="sample", step=step)
    mlflow.log_table({"label": [0, 1], "prediction": [1, 1]}, "table.json")
    mlflow.log_table({"label": [2], "prediction": [3]}, "table.json")  # reads the first part and appends
    folder = Path("outputs") / "deep"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"part-{number}.bin").write_bytes(bytes([number]) * (1 << (4 * number)))
    mlflow.log_artifacts("outputs", "everything")
    mlflow.log_artifact(str(folder / "part-1.bin"))

    for number in range(2):
        with mlflow.start_run(run_name=f"child-{number}", nested=True):
            mlflow.log_param("fold", number)
            for step in range(10):
                mlflow.log_metric("loss", number + step, step=step)
            with mlflow.start_run(run_name="grandchild", nested=True):
                mlflow.log_text(str(number), "fold.txt")

    model = LogisticRegression().fit(frame, labels)
    information = mlflow.sklearn.log_model(
        model,
        name="classifier",
        input_example=frame.head(2),
        pip_requirements=["scikit-learn"],
        params={"solver": "lbfgs"},
        tags={"kind": "linear"},
        registered_model_name="fluent-classifier",
    )
    mlflow.set_logged_model_tags(information.model_id, {"reviewed": "no"})
    mlflow.log_metric("score", model.score(frame, labels), model_id=information.model_id)
    client = MlflowClient()
    version = information.registered_model_version
    client.set_registered_model_alias("fluent-classifier", "challenger", version)
    client.set_model_version_tag("fluent-classifier", version, "stage", "tested")
    loaded = mlflow.sklearn.load_model(information.model_uri)
    assert (loaded.predict(frame) == model.predict(frame)).all()
    mlflow.set_tag("state", "done")

again = mlflow.get_run(parent.info.run_id)
assert again.info.status == "FINISHED", again.info.status
assert again.data.metrics["loss"] == 0.5, again.data.metrics
assert again.data.tags["state"] == "done"

try:
    with mlflow.start_run(run_name="failing"):
        mlflow.log_param("will", "fail")
        raise RuntimeError("as planned")
except RuntimeError:
    pass
with mlflow.start_run(run_id=parent.info.run_id):
    mlflow.log_metric("afterwards", 1.0)
