"""Resolution of `auto` to this machine's precision, device and threads."""

import platform
from collections.abc import Callable
from dataclasses import dataclass

from hw2.training.config import TrainingConfig, _require


@dataclass(frozen=True)
class ResolvedRuntime:
    """The precision, device and threads that `auto` resolved to."""

    precision: str  # "float32" or "bfloat16"
    device: str  # "cpu" or "cuda"
    threads: int


def native_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 natively; emulated it is 20 times slower than float32."""
    import torch

    # PyTorch may be built without oneDNN, as on Apple's processors; its operators aren't there then.
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN says yes to every AVX-512, also where it has to emulate.
    emulated = platform.machine() in ("x86_64", "AMD64") and not (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return not emulated


def bfloat16_is_faster() -> bool:
    """Whether a processor that computes in bfloat16 natively is faster in it than in float32.

    Intel's since Sapphire Rapids are so in AMX alone, which many virtual machines hide: their AVX-512 multiplies
    bfloat16 at half the rate of float32.
    """
    import torch

    has = torch.cpu.get_capabilities()
    intel = str(has.get("cpu_name", "")).startswith("Intel")
    return not (intel and has.get("avx512_fp16") and not has.get("amx_tile"))


def resolve_runtime(
    config: TrainingConfig,
    threads: Callable[[TrainingConfig, int, str], int] | None = None,
    by_autograd: bool | None = None,
) -> ResolvedRuntime:
    """Resolve the configuration's `auto` on this machine.

    Args:
        threads: Chooses how many threads a net without kernels gets, of so many at most and in a precision, where it
            may have all cores; `hw2.training.thread_count.fastest_threads` by default.
        by_autograd: Whether the net has no kernels; None: whether it has none for any images.

    Raises:
        ConfigurationError: it asks for a device or a precision that the machine lacks.
    """
    import torch

    gpu = torch.cuda.is_available()
    _require(
        config.device != "cuda" or gpu,
        "device is cuda but PyTorch sees no GPU here; use --device cpu or auto",
    )
    device = "cuda" if gpu and config.device != "cpu" else "cpu"
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else native_bfloat16()
    )
    _require(
        config.precision != "bfloat16" or native,
        f"precision is bfloat16 but this {device} doesn't compute in it natively; use --precision float32 or auto",
    )
    precision = config.precision
    if precision == "auto":
        faster = native and (device == "cuda" or bfloat16_is_faster())
        precision = "bfloat16" if faster else "float32"
    most = config.threads or torch.get_num_threads()
    by_autograd = config.by_autograd if by_autograd is None else by_autograd
    if by_autograd and device == "cpu" and config.threads == 0 and most > 1:
        from hw2.training.thread_count import fastest_threads

        most = (threads or fastest_threads)(config, most, precision)
    return ResolvedRuntime(precision, device, most)
