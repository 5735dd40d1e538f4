"""Histograms and ROC curves of scores lose no image and agree with scikit-learn."""

import numpy as np
import pytest

from hw2 import figures


class TestHistogramOfScores:
    def test_no_image_is_lost_and_the_threshold_is_an_edge(self) -> None:
        generator = np.random.default_rng(4)
        digits, outliers = generator.normal(0, 1, 5000), np.append(generator.normal(6, 2, 3000), 1e6)
        table = figures.outlier_scores_table({"digits": digits, "outliers": outliers}, 1.7)
        assert (table["digits"].sum(), table["outliers"].sum()) == (5000, 3001)
        assert table.loc[table["rejected"], "digits"].sum() == (digits > 1.7).sum()
        assert table.loc[table["rejected"], "outliers"].sum() == (outliers > 1.7).sum()
        assert 1.7 in table["low"].tolist()
        assert table["high"].max() < 100

    def test_a_score_that_is_the_threshold_is_accepted_and_an_infinite_one_rejected(self) -> None:
        table = figures.outlier_scores_table(
            {"digits": np.array([0.0, 1, 2]), "outliers": np.array([1.0, 1.0, np.inf])}, 1.0
        )
        assert table.loc[table["rejected"], ["digits", "outliers"]].sum().tolist() == [1, 1]

    @pytest.mark.parametrize("threshold", [-3.0, 1.0, 9.0])
    def test_a_threshold_beyond_all_scores_and_equal_scores_are_drawn(self, threshold: float) -> None:
        table = figures.outlier_scores_table({"digits": np.ones(9), "outliers": np.ones(4)}, threshold)
        assert table["digits"].sum() == 9
        assert table.loc[table["rejected"], "digits"].sum() == (9 if threshold < 1 else 0)
        figures.png(figures.outlier_scores(table))

    def test_many_sets_with_long_names_fit_into_the_heading(self) -> None:
        scores = {
            name: np.arange(9.0) for name in ("digits", "fashion-mnist-sample", "letters", "rotated", "noise")
        }
        figure = figures.outlier_scores(figures.outlier_scores_table(scores, 4.0))
        figures.png(figure)
        assert all(text.get_window_extent().x1 <= figure.bbox.width for text in figure.texts)


class TestRoc:
    def test_separable_scores_have_an_area_of_exactly_one(self) -> None:
        table = figures.roc_table({"s": (np.arange(50.0), np.arange(50.0) + 100)})
        assert (table["auroc"] == 1.0).all()

    def test_area_and_points_equal_scikit_learns(self) -> None:
        from sklearn.metrics import roc_auc_score, roc_curve

        generator = np.random.default_rng(8)
        digits, outliers = generator.normal(0, 1, 900).round(1), generator.normal(1.5, 1, 700).round(1)
        truth, scores = np.repeat([0, 1], [900, 700]), np.concatenate([digits, outliers])
        table = figures.roc_table({"s": (digits, outliers)})
        false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
        assert table["auroc"].iloc[0] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        point = table[table["point"] == "digits"].iloc[0]
        assert point["outliers_rejected"] == pytest.approx(true[false <= 0.05].max())
        rejected = table[table["point"] == "outliers"].iloc[0]
        assert rejected["digits_rejected"] == pytest.approx(false[true >= 0.95].min())

    def test_long_curves_are_thinned_and_keep_both_ends(self) -> None:
        generator = np.random.default_rng(9)
        table = figures.roc_table({"s": (generator.normal(size=5000), generator.normal(size=5000))})
        assert len(table) <= 210
        assert table[["digits_rejected", "outliers_rejected"]].iloc[[0, -1]].to_numpy().tolist() == [
            [0, 0],
            [1, 1],
        ]
