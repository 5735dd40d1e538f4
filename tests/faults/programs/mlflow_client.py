"""`MlflowClient` alone: runs that are made, written to and ended by hand, two of them at the same time."""

import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

client = MlflowClient()
known = client.get_experiment_by_name("client")
experiment_id = known.experiment_id if known else client.create_experiment("client", tags={"purpose": "test"})
first, second = (
    client.create_run(experiment_id, run_name=name, tags={"order": name}).info.run_id
    for name in ("first", "second")
)
for step in range(40):
    client.log_metric(first, "loss", 1 / (step + 1), step=step)
    client.log_batch(
        second,
        metrics=[Metric(f"m{i}", step * i, int(time.time() * 1000), step) for i in range(30)],
        params=[Param(f"p{step}", str(step))],
        tags=[RunTag("step", str(step))],
    )
    time.sleep(0.02)
# Written long after they were measured, in the wrong order.
past = [Metric("late", value, 1_700_000_000_000 + value, value) for value in range(1500, 0, -1)]
client.log_batch(first, metrics=past[:1000])
client.log_batch(first, metrics=past[1000:])
history = client.get_metric_history(first, "late")
assert len(history) == 1500, len(history)

Path("weights.bin").write_bytes(bytes(range(256)) * 20_000)
client.log_artifact(first, "weights.bin", "checkpoints")
client.log_text(second, "hello", "greeting.txt")
names = sorted(entry.path for entry in client.list_artifacts(second))
assert names == ["greeting.txt"], names
text = Path(client.download_artifacts(second, "greeting.txt")).read_text(encoding="utf-8")
assert text == "hello", text

client.log_param(first, "width", 32)
client.log_param(first, "width", 32)
refusal = ""
try:
    client.log_param(first, "width", 64)
except MlflowException as error:
    refusal = str(error)
assert "width" in refusal, f"a changed parameter was taken: {refusal}"
client.set_tag(first, "temporary", "x")
client.delete_tag(first, "temporary")
client.update_run(first, name="first, renamed")

client.create_registered_model("by-client", tags={"owner": "me"}, description="made by hand")
source = client.get_run(first).info.artifact_uri + "/checkpoints"
version = client.create_model_version(
    "by-client", source, first, tags={"step": "40"}, description="the only one"
)
client.set_registered_model_alias("by-client", "best", version.version)
client.set_terminated(second, "FAILED")
client.set_terminated(first)
