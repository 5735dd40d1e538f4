"""`report`: one page that says it all, needs nothing else, and can be read by everybody."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import mlflow_project
from mlflow_project.cli.main import run
from mlflow_project.registry.stored_runs import RunRecord
from mlflow_project.reports.comparison_sections import of_study
from tests.support.stored import StoredRuns

CSS = Path(mlflow_project.__file__).parent / "reports" / "templates" / "report.css"
VOID = {"meta", "link", "img", "br", "hr", "input"}
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """A parsed page: every element with its attributes and those it lies in, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, Attributes, tuple[str, ...]]] = []
        self.headings: list[tuple[int, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "elements that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += f" {data.strip()}" if data.strip() else ""
        if self.open and re.fullmatch(r"h\d", self.open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def reported(*options: str) -> Page:
    assert run(["report", *options, "--output", "page.html"]) == 0
    return Page(Path("page.html").read_text(encoding="utf-8"))


@pytest.fixture
def stored(store: str) -> StoredRuns:
    return StoredRuns(store)


@pytest.fixture(scope="module")
def made() -> list[str]:
    """The page below, once it is made: it takes seconds."""
    return []


@pytest.fixture
def page(made: list[str], request: pytest.FixtureRequest) -> Page:
    """Of two models of the study and one that isn't, with an outlier test of the two."""
    if made:
        return Page(made[0])
    stored: StoredRuns = request.getfixturevalue("stored")
    stored.training(range(3), alias="m2", files=True)
    stored.training(range(3, 33), alias="m5", lr=0.01, epochs=8, files=True)
    stored.training(range(4), alias="own", lr=0.5, epochs=6, files=True)
    stored.outlier_test("m2", "m5")
    page = reported("--models", "m2,m5,own")
    made.append(page.html)
    return page


def test_the_page_has_every_section(page: Page) -> None:
    assert [output for level, output in page.headings if level == 2] == [
        "The data", "The split", "The configurations", "The net", "Each model", "Confusion matrices",
        "Outliers", "All models", "The verdicts", "Observations", "The runs",
    ]  # fmt: skip
    for text in (
        "144,266",
        "m2 is better: 30 images against 3, p < 0.0001",
        "Short and aggressive against long and patient",
        "m2: 197 of 200 on the diagonal",
        "28 × 28 grey values",
    ):
        assert text in page.text or text in page.html, text


def test_the_studys_figures_stand_beside_those_of_its_configurations_alone(page: Page) -> None:
    assert "m2: the reference study’s 98.30 % is inside 95.68 % to 99.49 %." in page.text
    assert "m5: the reference study’s 98.20 % is above 79.39 % to 89.29 %." in page.text
    assert "own: the reference study" not in page.text
    assert "570.1" in page.text
    assert "54.9" in page.text


def test_the_outliers_are_read_as_the_study_does_and_honestly(page: Page) -> None:
    assert (
        "1 of 20 answers are the number of the image's class; a blind guess would match 2 on average. "
        "The reference study found 0 of 30." in page.text
    )
    assert "A Fashion-MNIST image has no digit, so no prediction of a digit model can be correct" in page.text
    assert "m2 is mnist-base-cnn/1 and m5 is mnist-base-cnn/2" in page.text
    assert (
        "m2 by its own score and threshold: outlier rejection rate 90.0 % (50.0 to 100) of 10 images of "
        "fashion-mnist; inlier acceptance 95.5 % (50.0 to 100) of 200 digits; selective accuracy "
        "98.0 % (50.0 to 100)."
    ) in page.text
    assert "AUROC above 0.9999." in page.text
    captions = [text.strip() for text in re.findall("<figcaption>(.*?)</figcaption>", page.html)]
    assert [text for text in captions if "predicted as" in text] == [
        "Images of fashion-mnist shown to m2, and what they are predicted as.",
        "Images of fashion-mnist shown to m5, and what they are predicted as.",
        "own by its own run: some images, and what they are predicted as.",
    ]
    assert sum("garment 3 predicted as 0" in (image["alt"] or "") for image in page.all("img")) == 3


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    links = [
        value
        for _, attributes, _ in page.elements
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "action", "data", "poster") and value
    ]
    assert links
    ids = {attributes.get("id") for _, attributes, _ in page.elements}
    for link in links:
        assert link.startswith("data:") or (link.startswith("#") and link[1:] in ids), link[:80]
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert not re.search(r"https?://", page.html)


def test_headings_begin_with_one_h1_and_leave_no_level_out(page: Page) -> None:
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(text.strip() for _, text in page.headings)


def test_whoever_does_not_see_it_hears_what_is_seen(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    images = page.all("img")
    assert len(images) == 10
    for image in images:
        assert len(image["alt"] or "") > 40, image["alt"]
    assert len({image["alt"] for image in images}) == len(images)
    for heading in page.all("th"):
        assert heading.get("scope") in ("col", "row")
    regions = [attributes for attributes in page.all("div") if "role" in attributes]
    assert all(region["aria-label"] and region["tabindex"] == "0" for region in regions)


def test_each_figure_has_its_table_one_click_away(page: Page) -> None:
    figures = page.html.split("<figure>")[1:]
    assert len(figures) == 10
    for figure in figures:
        inner = figure.split("</figure>")[0]
        assert re.search(r"<details>\s*<summary>.*?</summary>.*<table.*</table>.*</details>", inner, re.S)


def test_tables_scroll_in_their_box_and_open_when_printed(page: Page) -> None:
    assert page.html.count('<div class="scroll"') == page.html.count("<table")
    assert 'name="viewport" content="width=device-width' in page.html
    css = CSS.read_text(encoding="utf-8")
    assert "font: 16px" in css
    assert re.search(r"\.scroll {[^}]*overflow-x: auto", css)
    printed = css[css.index("@media print") :]
    assert "details::details-content { content-visibility: visible" in printed


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`, as WCAG 2.1 defines it."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_color_can_be_read_on_every_background() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)
    css = CSS.read_text(encoding="utf-8")
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", css))
    texts = set(re.findall(r"(?<![-\w])color: ([^;]+);", css))
    backgrounds = set(re.findall(r"background(?:-color)?: ([^;]+);", css))
    assert len(texts) >= 3
    assert len(backgrounds) >= 3
    for text in texts:
        for background in backgrounds:
            pair = [named[re.fullmatch(r"var\(--(\w+)\)", output)[1]] for output in (text, background)]  # type: ignore[index]
            assert contrast(*pair) >= 4.5, (text, background)


def test_a_name_is_text_and_never_markup(stored: StoredRuns) -> None:
    stored.training([1], name="<script>alert(1)</script>")
    page = reported()
    assert "<script>alert" not in page.html
    assert "<script>alert(1)</script>" in page.text


def test_one_model_alone_without_figures_and_outliers_has_a_page(stored: StoredRuns) -> None:
    stored.training([1, 2], dataset="kmnist", tags={"dataset": "kmnist"})
    page = reported()
    assert "1 model on kmnist" in page.text
    assert "there is no other model to compare it with" in page.text
    assert "There is no outlier test of these models yet." in page.text
    assert "study’s" not in page.text


def test_configurations_at_several_seeds_come_first_with_their_failed_seeds_and_figure(
    stored: StoredRuns,
) -> None:
    for seed, wrong in ((0, 60), (1, 62), (2, 64)):
        stored.training(range(wrong), seed=seed, lr=0.01, epochs=8, name=f"long {seed}")
        stored.training(range(wrong // 6), seed=seed, name=f"short {seed}")
    reason = {"reason": "the loss became nan at batch 7 (epoch 1): training stopped"}
    stored.training(None, seed=3, status="failed", tags=reason)
    made = reported()
    headings = [text for _, text in made.headings]
    assert headings.index("On configurations, over seeds and test images") < headings.index(
        "On single models"
    )
    best = "The best: lr=0.1 epochs=5, 95.00 % on average over 3 seeds."
    assert made.text.count(best) == 2  # at the top and among the verdicts
    assert "1 of 4 seeds didn't train (seed 3) of lr=0.1 epochs=5." in made.text
    assert "Accuracies by configuration: lr=0.01 epochs=8 69.00 %, between " in made.html
    answer = "5 epochs at 0.1 beat 8 at 0.01? By the models of seed 0: yes (short 0 is better: "
    assert answer in made.text
    assert "Each of 3 seeds alone: 3 yes. By the configurations: yes (" in made.text


def test_one_seed_each_says_nothing_of_seeds(stored: StoredRuns) -> None:
    stored.training(range(9))
    stored.training(range(3), epochs=8)
    made = reported()
    assert "over seeds and test images" not in made.text
    assert "The reference study’s own" not in made.text


def test_a_sweeps_models_show_their_own_outliers_whatever_others_were_tested(stored: StoredRuns) -> None:
    first, second = (stored.training([n], lr=lr, files=True) for n, lr in enumerate((0.1, 0.2)))
    stored.training([3], alias="m1", lr=0.3)
    stored.outlier_test("m1")
    page = reported("--runs", f"{first},{second}")
    assert "There is no outlier test of these models yet; one is made by" in page.text
    assert "lr=0.1 epochs=5 by its own run: some images" in page.text
    assert "lr=0.2 epochs=5 by its own run: some images" in page.text
    assert "shown to m1" not in page.html


def test_the_test_with_the_most_of_the_models_is_taken_under_the_names_that_it_gave(
    stored: StoredRuns,
) -> None:
    first = stored.training([1], alias="m1", lr=0.1)
    second = stored.training([2], alias="m2", lr=0.2)
    stored.outlier_test("m1", "m2")
    stored.outlier_test("m2")
    page = reported("--runs", f"{first},{second}")
    assert (
        "m1 is mnist-base-cnn/1 (here lr=0.1 epochs=5) and m2 is mnist-base-cnn/2 (here lr=0.2 epochs=5)"
        in page.text
    )
    assert "Images of fashion-mnist shown to m1" in page.text


def test_what_stands_in_the_way_is_one_line(
    stored: StoredRuns, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["report"]) == 1
    assert capsys.readouterr().err.startswith("Error: experiment mnist-base-cnn has no completed run")
    stored.training([1])
    (tmp_path / "file").touch()
    assert run(["report", "--output", str(tmp_path / "file" / "page.html")]) == 2
    assert "name another file by --output" in capsys.readouterr().err


def test_a_page_is_replaced_with_a_word_and_another_file_never(
    stored: StoredRuns, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stored.training([1])
    stored.training([2], epochs=8)
    assert run(["report"]) == 0
    assert "replaced" not in capsys.readouterr().err
    assert run(["report"]) == 0
    assert "Note: report.html was there and is replaced" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert run(["report", "--output", "thesis.tex"]) == 2
    assert "thesis.tex is there and is not an HTML page" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_what_was_held_out_is_said_beside_the_study(stored: StoredRuns) -> None:
    stored.training(range(3), alias="m2", validation_size=6000)
    assert "The reference study trained on all training images" in reported("--models", "m2").text


def test_the_study_s_figures_stand_beside_a_run_however_its_numbers_were_written() -> None:
    text = {"lr": "1e-1", "epochs": "5", "batch_size": "64", "optimizer": "sgd", "momentum": "0"}
    model = of_study(RunRecord(name="m2", run_id="id", artifact_uri="", parameters=text, metrics={}, tags={}))
    assert model is not None
    assert model.alias == "m2"
    for other in ({"momentum": "0.9"}, {"weight_decay": "0.1"}, {"augment": "flip"}):
        assert (
            of_study(
                RunRecord(
                    name="other",
                    run_id="id",
                    artifact_uri="",
                    parameters={**text, **other},
                    metrics={},
                    tags={},
                )
            )
            is None
        )
