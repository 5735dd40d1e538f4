"""`scripts/benchmark training --dataset`, on a few small images."""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from benchmarks.training import train_step


def test_both_nets_are_trained_by_every_way_on_images_of_ones_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        f"{part}_{what}": random.integers(0, high, (count, *shape), dtype=np.uint8)
        for part, count in (("train", 300), ("test", 40))
        for what, high, shape in (("images", 256, (8, 12, 3)), ("labels", 2, ()))
    }
    np.savez(tmp_path / "small.npz", **arrays)
    parser = ArgumentParser()
    parser.add_argument("--data-dir", type=Path)
    train_step.options(parser)
    dataset = ["--dataset", str(tmp_path / "small.npz")]
    report = train_step.run(
        parser.parse_args([*dataset, "--rounds", "1", "--images", "256", "--workers", "0"])
    )
    assert {row["net"] for row in report.rows} == {"resnet20", "a net of one's own"}
    for net, result in report.raw.items():
        ways = [row["training"] for row in report.rows if row["net"] == net]
        assert ways[:2] == ["usual loop, float32", "this step, float32"]
        # They have trained: nets of one start, by as many batches, are as right as each other within a wide bound.
        assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in result["seconds"].values())
        assert set(result["accuracies"]) == set(ways)
    # Random labels teach nothing, and a net that has learned nothing shows nothing.
    assert any("expected 0.7500 at least" in problem for problem in report.wrong)
    assert any("matmul 2048 x 2048 x 2048, float32: " in note for note in report.notes)
