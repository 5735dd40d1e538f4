"""Options that several commands share. Their defaults are those of `TrainingConfig`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hw2.train_step.options import AUGMENTATIONS, OPTIMIZERS
from hw2.training.config import DEVICES, PRECISIONS, TrainingConfig
from hw2.training.schedule import SCHEDULES
from mlflow_project.common.names import DEFAULT_NAME

if TYPE_CHECKING:
    IntType = click.ParamType[int]
    TupleType = click.ParamType[tuple[Any, ...]]
else:  # before click 8.4 it isn't generic
    IntType = TupleType = click.ParamType

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FIELDS = {field.name: field for field in dataclasses.fields(TrainingConfig)}


class _Option(click.Option):
    """An option that refuses an empty value, which mostly comes from an unset shell variable."""

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, click.core.ParameterSource]:
        """Return the value and its source; BadParameter for an empty one from the command line."""
        value, source = super().consume_value(ctx, opts)
        values = value if isinstance(value, tuple | list) else (value,)
        if source is click.core.ParameterSource.COMMANDLINE and "" in values:
            raise click.BadParameter("it is empty; give it a value, or leave the option out", ctx, self)
        return value, source


option = functools.partial(click.option, cls=_Option)
"""`click.option` that refuses empty values; every command's options are made by it."""


class IntLike(IntType):
    """A whole number, also as `8.0`, which MLflow's own type check lets pass."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; fail, naming the value, where it is not a whole number."""
        try:
            number = float(value)
            whole = int(value) if str(value).lstrip("+-").isdigit() else int(number)
        except (ValueError, OverflowError):
            self._refuse(value, param, ctx)
        return whole if whole == number else self._refuse(value, param, ctx)

    def _refuse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(f"{value!r} is not a whole number", param, ctx)


name_option = option("--name", default=DEFAULT_NAME, show_default=True, help="The registered model.")
"""`--name`: the registered model in which aliases, numbers and configurations are resolved."""


MIGRATE_HELP = "Bring a store of an older MLflow up to date, which that one then can't open."


def migrate_option(command: _Command) -> _Command:
    """Add `--migrate`: without it a store of an older MLflow is refused."""

    @functools.wraps(command)
    def migrating(*args: Any, migrate: bool, **kwargs: Any) -> Any:
        if migrate:
            from mlflow_project.tracking.delivery.client import migrate_store

            migrate_store()
        return command(*args, **kwargs)

    decorated: _Command = option("--migrate", is_flag=True, help=MIGRATE_HELP)(migrating)  # type: ignore[assignment]
    return decorated


def switch_option(name: str, help_: str, default: bool) -> Callable[[_Command], _Command]:
    """Add `--name`, `--no-name` and `--name yes|no`; an MLproject parameter needs the last."""

    def decorate(command: _Command) -> _Command:
        variable = name.replace("-", "_")
        off = option(
            f"--no-{name}", f"no_{variable}", is_flag=True, default=False, help="Disable.", hidden=True
        )
        on = option(
            f"--{name}",
            variable,
            is_flag=False,
            flag_value="yes",
            type=click.BOOL,
            default=default,
            metavar="[yes|no]",
            help=f"{help_}  [default: {'yes' if default else 'no'}; also --no-{name}]",
        )

        @functools.wraps(command)
        def both(*args: Any, **kwargs: Any) -> Any:
            kwargs[variable] = not kwargs.pop(f"no_{variable}") and kwargs[variable]
            return command(*args, **kwargs)

        decorated: _Command = on(off(both))  # type: ignore[assignment]
        return decorated

    return decorate


def _default_text(name: str) -> str:
    default = _FIELDS[name].default
    if name == "validation_size":
        return "5,000; a twelfth of a smaller set"
    return "none" if default in (None, "") else f"{default}"


def _option(name: str, type_: "click.ParamType[Any] | type", help_: str) -> Callable[[_Command], _Command]:
    text = f"{help_}  [default: {_default_text(name)}]"
    return option("--" + name.replace("_", "-"), type=type_, default=None, help=text)


CONFIGURATION_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "lr": _option("lr", float, "Learning rate; of a schedule the largest."),
    "epochs": _option("epochs", IntLike(), "Passes over the training set."),
    "batch_size": _option("batch_size", IntLike(), "Batch size."),
    "optimizer": _option("optimizer", click.Choice(OPTIMIZERS), "Optimizer."),
    "momentum": _option("momentum", float, "Momentum of SGD, from 0 to below 1."),
    "nesterov": option(
        "--nesterov",
        is_flag=False,
        flag_value="yes",
        type=click.BOOL,
        default=None,
        metavar="[yes|no]",
        help="Nesterov's momentum.  [default: no]",
    ),
    "weight_decay": _option(
        "weight_decay", float, "Weight decay: of SGD in the gradient, of AdamW beside it."
    ),
    "label_smoothing": _option(
        "label_smoothing", float, "Share of each label spread over all classes, from 0 to below 1."
    ),
    "clip_norm": _option(
        "clip_norm", float, "Longest gradient, over all parameters; longer ones are scaled."
    ),
    "schedule": _option(
        "schedule",
        click.Choice(SCHEDULES),
        "Learning rate over the training; cosine and one-cycle end near 0 after the last epoch.",
    ),
    "warmup": _option(
        "warmup", IntLike(), "Batches over which the rate rises to lr; 0 for lr at once, and with one-cycle."
    ),
    "augment": _option(
        "augment", str, f"Random changes of the training images: some of {','.join(AUGMENTATIONS)}."
    ),
    "patience": _option(
        "patience",
        IntLike(),
        "Epochs without a smaller validation loss after which training ends; the best epoch's weights are kept.",
    ),
    "seed": _option("seed", IntLike(), "Random seed (weights and shuffling)."),
    "dataset": _option(
        "dataset",
        str,
        "mnist, fashion-mnist, kmnist, qmnist, emnist-*, cifar10, cifar100, svhn, or the path of class folders, of IDX "
        "files or of an .npz.",
    ),
    "image_size": option(
        "--image-size",
        type=IntLike(),
        default=None,
        help="Side of the square that the images of class folders are made into: shorter side scaled, middle cut out. "
        "Without it they are taken as they are.",
    ),
    "validation_size": _option("validation_size", IntLike(), "Training images held out for validation."),
    "precision": _option("precision", click.Choice(PRECISIONS), "Floating-point precision."),
    "device": _option("device", click.Choice(DEVICES), "Where to train."),
    "threads": _option("threads", IntLike(), "Processor threads; 0 for all cores."),
    "model": _option("model", str, "Architecture: base-cnn, resnet20, torchvision:NAME or FILE.py:CLASS."),
}


def configuration_options(*left_out: str) -> Callable[[_Command], _Command]:
    """Add the options of a `TrainingConfig` but those in `left_out`; each is None by default."""

    def decorate(command: _Command) -> _Command:
        for name in reversed(CONFIGURATION_OPTIONS):
            if name not in left_out:
                command = CONFIGURATION_OPTIONS[name](command)
        return command

    return decorate


def data_options(command: _Command) -> _Command:
    """Add the options that say where the images come from."""
    download = switch_option("download", "Let torchvision fetch a data set that isn't on the disk.", False)
    decorated: _Command = option(
        "--data-dir",
        type=click.Path(path_type=Path),
        default=None,
        help="Folder of the full data (DIR/MNIST/raw, DIR/raw or DIR). Without it: torchvision's cache, else the "
        "bundled sample.",
    )(download(command))
    return decorated


def split_options(options: Mapping[str, Any]) -> tuple[TrainingConfig, dict[str, Any]]:
    """Return the configuration that the options give, and the options that are no field of it."""
    config = TrainingConfig(**{k: v for k, v in options.items() if k in _FIELDS and v is not None})
    return config, {k: v for k, v in options.items() if k not in _FIELDS}
