"""Many runs at once, each a process of its own, after MLflow was imported once for all of them.

python -m tests.faults.many TRACKING_URI FOLDER EPOCHS SEED...
"""

import os
import sys
import traceback
from pathlib import Path

from mlflow_project.tracking.delivery.client import import_mlflow
from tests.faults.play import play


def main(uri: str, folder: Path, epochs: int, seeds: list[int]) -> int:
    """How many of them failed."""
    import_mlflow()
    children = []
    for seed in seeds:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                pending = play(uri, folder / f"{seed}.key", seed, epochs, 0.3, 120)
                status = 2 if pending else 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), [int(seed) for seed in sys.argv[4:]]))
