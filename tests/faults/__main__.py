"""`scripts/faults`: rounds of faults, each compared with a run that was left alone.

scripts/faults --rounds 25            whole trainings
scripts/faults --rounds 25 --journal  the journal alone: more faults in the same time
scripts/faults --cost 5               what an outage adds to the time of a training
scripts/faults --identity             two actions on the same run or store, in every order
scripts/faults --program FILE.py ...  programs that know nothing of this project, under durable+http
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.faults import cost, identity, training
from tests.faults.any_program.campaign import play_programs
from tests.faults.any_program.schedules import NAMES as SCHEDULES
from tests.faults.proxy import Proxy
from tests.faults.rounds import Round, play_round
from tests.faults.server import tracking_server

# Clients give up soon, so that a hanging request costs seconds; the proxy knows after how many.
PATIENCE_SECONDS = 2


def main() -> int:
    """The number of rounds that went wrong, at most 1 as an exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description="Draw faults, and count what they cost."
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; drawn where not given")
    parser.add_argument(
        "--journal", action="store_true", help="a fake training, for faults of the journal alone"
    )
    parser.add_argument(
        "--cost", type=int, default=0, metavar="N", help="instead: N trainings with each outage"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of the trainings of --cost")
    parser.add_argument(
        "--identity",
        action="store_true",
        help="instead: two actions on the same run or store, in every order",
    )
    parser.add_argument("--pairs", type=int, default=None, help="of --identity, drawn; all where not given")
    parser.add_argument(
        "--program",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="instead: these programs, unchanged, in turn; those of tests/faults/programs where none is given",
    )
    parser.add_argument(
        "--fault", choices=list(SCHEDULES), default=None, help="of --program; drawn where not given"
    )
    parser.add_argument(
        "--kill",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="of --program; drawn where not given",
    )
    options = parser.parse_args()
    # So that a SIGTERM also ends the server that was started here.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    if options.identity:
        return _play_pairs(options.pairs, seed)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    if options.program is not None:
        programs = options.program or sorted((Path(__file__).parent / "programs").glob("*.py"))
        return play_programs(programs, options.rounds, seed, options.fault, options.kill)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(PATIENCE_SECONDS)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        os.environ["MLFLOW_PROJECT_STATE"] = str(folder / "state")
        with tracking_server(folder / "server") as port:
            proxy = Proxy(port, PATIENCE_SECONDS + 0.5)
            if options.cost:
                found = cost.measure(folder / "cost", proxy, options.cost, options.epochs, seed)
                print(cost.table(found))
                proxy.down()
                return 0
            rounds = _rounds(folder, proxy, port, seed, options.rounds, options.journal)
            failed = [each for each in rounds if each.differences]
            proxy.down()
    kills, outages, struck = (sum(getattr(r, n) for r in rounds) for n in ("kills", "outages", "struck"))
    points, lost, twice = (sum(getattr(r, n) for r in rounds) for n in ("points", "lost", "twice"))
    told = "" if options.journal else f"; of {points:,} points {lost} lost, {twice} twice"
    print(
        f"{len(rounds)} rounds, {kills} kills, {outages} outages, {struck} requests struck: "
        f"{len(failed)} differ{told}"
    )
    return 1 if failed else 0


def _play_pairs(count: int | None, seed: int) -> int:
    pairs = identity.all_pairs()
    if count is not None:
        pairs = random.Random(seed).sample(pairs, count)
    with tempfile.TemporaryDirectory(prefix="identity-") as name:
        results = identity.campaign(Path(name), pairs)
    failed = sum(map(bool, results.values()))
    print(f"\n{identity.table(results)}\n{len(results)} pairs: {failed} went wrong")
    return 1 if failed else 0


def _rounds(folder: Path, proxy: Proxy, port: int, seed: int, count: int, journal: bool) -> list[Round]:
    rounds = []
    if not journal:
        data = training.prepare(folder)
        net = seed % 1000
        wanted = training.reference(folder / "reference", port, data, net)
        print(f"left alone: {len(wanted.points)} metrics, {len(wanted.artifacts)} artifacts", flush=True)
    for number in range(count):
        place = folder / f"round-{number}"
        place.mkdir()
        if journal:
            each = play_round(place, proxy, port, seed + number)
        else:
            each = training.train_round(place, proxy, port, seed + number, data, wanted, net)
        rounds.append(each)
        print(each, flush=True)
    return rounds


if __name__ == "__main__":
    sys.exit(main())
