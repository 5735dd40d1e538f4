"""Describe runs, models and experiments for MLflow's UI (Markdown)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hw2.common.constants import DIGITS
from hw2.common.formatting import format_ratio, join_names
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net_source import BASE, RESNET20, TORCHVISION, class_name, is_torchvision
from hw2.training.config import LATER, TrainingConfig, without_later_defaults
from hw2.training.early_stopping import kept_result
from mlflow_project.common.names import NOTE_TAG
from mlflow_project.common.ui_links import comparison_page, experiment_page
from mlflow_project.tracking.journal.entities import EXPERIMENT_PLACE, VERSION_PLACE
from mlflow_project.training import ui_views

if TYPE_CHECKING:
    from hw2.models.net import Net
    from hw2.outliers.assessment import Assessment
    from hw2.training.trainer import EpochResult
    from mlflow_project.training.inputs import TrainingInputs

_OPTIMIZER_NAMES = {"sgd": "SGD", "adamw": "AdamW"}
_EXPERIMENT = (
    "Runs of mlflow-project: each is one configuration, trained and tested. Runs of a sweep stand below its own. "
    "Compare runs whose tag `dataset_sha256` is the same; their `test_accuracy` has a 95 % interval from "
    "`test_accuracy_low` to `test_accuracy_high`."
)


def experiment_tags(*tables: ui_views.View) -> dict[str, str]:
    """Return what an experiment is and the views that links open on its page; contains EXPERIMENT_PLACE.

    Args:
        tables: Those that the runs written with it open besides the usual one, to which the description links.
    """
    usual, charts = ui_views.table(), ui_views.charts()
    note = f"{view_links(EXPERIMENT_PLACE, usual)}\n\n{_EXPERIMENT}"
    return {NOTE_TAG: note, **dict(view.tag for view in (usual, charts, *tables))}


def view_links(experiment_id: str, table: ui_views.View, run_ids: Sequence[str] = ()) -> str:
    """Return links to an experiment's views and, where there are several runs, to their comparison."""
    links = {
        "Table of runs, the best first": experiment_page(experiment_id, table.query),
        "Charts": experiment_page(experiment_id, ui_views.charts().query),
    }
    if len(run_ids) > 1:
        links["These models side by side"] = comparison_page(experiment_id, run_ids)
    return " | ".join(f"[{text}]({address})" for text, address in links.items())


def registered_model(name: str, model: str = BASE, spec: ImageSpec = STUDY) -> str:
    """Describe a registered model, whatever its versions are. model: as the configuration names the net."""
    from hw2.models.base_cnn import layer_table

    if model == BASE:
        parameters = sum(row[2] for row in layer_table(spec))
        net = f"BaseCNN, two 3 x 3 convolutions, {parameters:,} parameters"
    else:
        net = _origin(model)
    color = "color " if spec.channels > 1 else ""
    count = "ten" if spec.num_classes == len(DIGITS) else f"{spec.num_classes:,}"
    return (
        f"Classifiers of {spec.height} x {spec.width} {color}images into {count} classes: {net}. "
        f"Each version is one run and carries an outlier score with its own threshold.\n\n"
        f"`champion` is the version to use: chosen on validation accuracy, never on test "
        f"(`mlflow-project models promote --best --name {name}`). "
        f"Who changed an alias, when and why: `mlflow-project models history --name {name}`."
    )


@dataclass(frozen=True, eq=False)
class ModelCard:
    """A trained model's description: data, configuration, metrics, loading and limits."""

    config: TrainingConfig
    images: "TrainingInputs"
    assessment: "Assessment"
    history: "Sequence[EpochResult]"
    model: "Net"

    def text(self, registered_name: str | None = None) -> str:
        """Write the card; how to load it only where the model is registered, with VERSION_PLACE for its number."""
        parts = [self._headline(), self._data(), self._configuration(), self._accuracy(), self._outliers()]
        if self.config.custom_net is not None:
            parts.insert(1, self._net())
        if registered_name is not None:
            parts.append(_loading(registered_name, self.model.spec))
        return "\n\n".join([*parts, self._limits()])

    def _headline(self) -> str:
        accuracy, name = self.assessment.test.accuracy, self.images.dataset.name
        # Without the data's path.
        config = dataclasses.replace(
            self.config, dataset=TrainingConfig.dataset, model=TrainingConfig.model
        ).name
        net = class_name(self.config.model)
        return f"{net}, {config}: test accuracy {accuracy:.2%} on {name}."  # tables show it bare

    def _net(self) -> str:
        name, layers = class_name(self.config.model), self.model.layers()
        parameters = f"{sum(row[2] for row in layers):,} parameters"
        if not self.config.model_source:
            return f"**Net.** {parameters}, {_origin(self.config.model)}."
        listed = ", ".join(row[0] for row in layers[1:])
        return (
            f"**Net.** {name}, {parameters}: {listed}. Its source is "
            f"`extra_files/{name}.py` among the model's files, and is run where the model is loaded."
        )

    def _data(self) -> str:
        dataset, validation = self.images.dataset, self.images.validation
        held_out = "none" if validation is None else f"{len(validation):,}"
        return (
            f"**Data.** {dataset.name}: {len(self.images.train):,} images to train, {held_out} for validation, "
            f"{len(dataset.test):,} to test; classes {join_names(dataset.train.classes, 20)}; "
            f"SHA-256 `{dataset.sha256[:16]}`."
        )

    def _configuration(self) -> str:
        config, runtime = self.config, self.images.runtime
        epochs = f"{config.epochs} epoch{'' if config.epochs == 1 else 's'}"
        rising = f" (rising over the first {config.warmup:,} batches)" if config.warmup else ""
        momentum = f" and momentum {config.momentum:g}" if config.optimizer == "sgd" else ""
        others = {key: getattr(config, key) for key in LATER if key != "image_size"}
        used = ", ".join(f"{key} {value}" for key, value in without_later_defaults(others).items())
        return (
            f"**Configuration.** {_OPTIMIZER_NAMES[config.optimizer]} with learning rate {config.lr:g}{rising}"
            f"{momentum}, {epochs} in batches of {config.batch_size}, seed {config.seed}; "
            f"{runtime.precision} on {runtime.device}." + (f" Beside that: {used}." if used else "")
        )

    def _accuracy(self) -> str:
        kept = kept_result(self.history, self.config.patience)
        test, validation = self.assessment.test, kept.validation_accuracy
        low, high = test.accuracy_interval
        text = (
            f"**Accuracy.** {int(test.correct.sum()):,} of {test.n:,} test images correct: {test.accuracy:.2%}, "
            f"95 % interval {low:.2%} to {high:.2%} (Wilson); mean loss {test.loss:.4f} nats; calibration error "
            f"{test.calibration_error:.4f}."
        )
        metrics = self.assessment.metrics()
        if "test_balanced_accuracy" in metrics:
            text += f" Classes differ in size: balanced accuracy {metrics['test_balanced_accuracy']:.2%}."
        if "test_top5_accuracy" in metrics:
            text += f" Among the five likeliest classes: {metrics['test_top5_accuracy']:.2%}."
        if validation is not None:
            text += f" Validation accuracy {validation:.2%}."
        if self.config.patience is not None:
            text += (
                f" The weights are those after epoch {kept.epoch} of {len(self.history)} that were trained."
            )
        return text

    def _outliers(self) -> str:
        metrics, outliers = self.assessment.metrics(), self.images.outliers
        detector, shares = self.assessment.detector, self.assessment.threshold_summary()
        if detector is None:
            return f"**Outliers.** This model has no outlier score: {self.images.no_score}."
        return (
            f"**Outliers.** On {len(outliers):,} images of {outliers.name} the default score has an AUROC of "
            f"{format_ratio(metrics['outlier_auroc'])}. "
            f"Its threshold, {detector.threshold:.3f}, accepts {detector.target_recall:.0%} of "
            f"{detector.held_out:,} {detector.threshold_from} images. On images never seen: inlier acceptance "
            f"{shares['digits_kept']} of the test images, selective accuracy {shares['accuracy_on_kept']}, outlier "
            f"rejection rate {shares['outliers_rejected']} of {outliers.name} (in brackets 95 % intervals, Wilson)."
        )

    def _limits(self) -> str:
        dataset, outliers = self.images.dataset, self.images.outliers
        rejected = self.assessment.metrics().get("outlier_rejected")
        spec = self.model.spec
        look = "in color" if spec.channels > 1 else "grey, light on dark" if spec.is_digits else "grey"
        passed = (
            "" if rejected is None else f"; {1 - rejected:.1%} of {outliers.name} also pass the threshold"
        )
        limits = [
            f"It names one of {len(dataset.train.classes)} classes for every image, whatever is in it{passed}.",
            f"It has seen images like those of {dataset.name} alone: {spec.height} x {spec.width}, {look}. "
            "The interval says nothing about others.",
            "It is one training with one seed; another seed makes other mistakes.",
        ]
        if dataset.is_sample:
            limits.insert(0, "It was trained on the small bundled sample: for trying out, not for use.")
        return "**Limits.**\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _origin(model: str) -> str:
    """Say what a net other than BaseCNN is, and what it needs."""
    if model == RESNET20:
        return "a residual net of 20 layers (He et al., CVPR 2016, section 4.2)"
    if is_torchvision(model):
        net = model.removeprefix(TORCHVISION)
        return f"torchvision's {net} with first layers for small images, which needs torchvision where it is loaded"
    return "a custom net, whose source lies in `extra_files` of each version"


def add_loading(text: str, name: str, spec: ImageSpec) -> str:
    """Return the card of a model that is registered only now, with how to load it."""
    return f"{text}\n\n{_loading(name, spec)}"


def _loading(name: str, spec: ImageSpec) -> str:
    meaning = "0 is background" if spec.is_digits else "0 to 255"
    address = f"models:/{name}/{VERSION_PLACE}"
    return (
        "**Load.**\n\n```python\n"
        f'answers = mlflow.pyfunc.load_model("{address}").predict(images)  # uint8 {spec.forms}, {meaning}\n'
        f'logits = mlflow.pytorch.load_model("{address}")(torch.from_numpy(images))  # {spec.form}\n'
        "```\n\n"
        f"Or `mlflow-project predict --model {address} FILE...`, or over HTTP "
        f"`mlflow models serve -m {address}`, which takes the same images as `inputs`."
    )
