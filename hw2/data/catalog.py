"""The data sets that are known by name, as their authors publish them, and the samples embedded here."""

import string
from dataclasses import dataclass, field
from pathlib import Path

from hw2.common.constants import DIGITS

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
ALL_CHARACTERS = DIGITS + tuple(string.ascii_uppercase) + tuple(string.ascii_lowercase)
# EMNIST's merged classes: small letters that look like their capitals (Cohen et al. 2017, section II.B).
MERGED_CHARACTERS = tuple(character for character in ALL_CHARACTERS if character not in "cijklmopsuvwxyz")


@dataclass(frozen=True)
class DatasetSpec:
    """One published data set.

    folder: torchvision's class and folder; sizes: images in the training and test set; md5: of the unpacked
    files, by "train-images" and so on; prefix: of the file names; transposed: stored column by column; first_label:
    the number of the first class; downloads: what torchvision's class is asked for, one after the other.
    """

    folder: str
    classes: tuple[str, ...]
    sizes: tuple[int, int] = (60_000, 10_000)
    md5: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    transposed: bool = False
    first_label: int = 0
    downloads: tuple[dict[str, str], ...] = ({},)


def _emnist(split: str, classes: tuple[str, ...], train: int, test: int, first_label: int = 0) -> DatasetSpec:
    return DatasetSpec(
        "EMNIST", classes, (train, test), prefix=f"emnist-{split}-", transposed=True, first_label=first_label,
        downloads=({"split": split},),
    )  # fmt: skip


DATASETS: dict[str, DatasetSpec] = {
    "mnist": DatasetSpec(
        "MNIST",
        DIGITS,
        md5={
            "train-images": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels": "a25bea736e30d166cdddb491f175f624",
            "test-images": "2646ac647ad5339dbf082846283269ea",
            "test-labels": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    # Zalando publishes sums of its gzip files, which change where the same content is packed anew, as in
    # Debian. These are of the content of Debian's files, which is the published one: with the names and times
    # of 31 August 2017 put back into the headers (1504176627 for test files, 21 s less for training),
    # Zalando's sums come out.
    "fashion-mnist": DatasetSpec(
        "FashionMNIST",
        GARMENTS,
        md5={
            "train-images": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels": "9018921c3c673c538a1fc5bad174d6f9",
            "test-images": "8181f5470baa50b63fa0f6fddb340f0a",
            "test-labels": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
    "kmnist": DatasetSpec("KMNIST", KANA),
    "qmnist": DatasetSpec(
        "QMNIST", DIGITS, (60_000, 60_000), prefix="qmnist-", downloads=({"what": "train"}, {"what": "test"})
    ),
    "emnist-digits": _emnist("digits", DIGITS, 240_000, 40_000),
    "emnist-mnist": _emnist("mnist", DIGITS, 60_000, 10_000),
    "emnist-letters": _emnist("letters", tuple(string.ascii_lowercase), 124_800, 20_800, first_label=1),
    "emnist-balanced": _emnist("balanced", MERGED_CHARACTERS, 112_800, 18_800),
    "emnist-bymerge": _emnist("bymerge", MERGED_CHARACTERS, 697_932, 116_323),
    "emnist-byclass": _emnist("byclass", ALL_CHARACTERS, 697_932, 116_323),
}

_SAMPLE_DIR = Path(__file__).parent / "samples"
# Follows a set's name where its embedded sample stands in for it.
SAMPLE_SUFFIX = "-sample"
# Where the embedded sample of a set is, by split.
SAMPLES: dict[str, dict[str, Path]] = {
    "mnist": {"train": _SAMPLE_DIR / "mnist", "test": _SAMPLE_DIR / "mnist"},
    "fashion-mnist": {"test": _SAMPLE_DIR / "fashion-mnist"},
}
