"""The page that the stage writes: complete, self-contained, safe, and the same every time."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from stages import report
from stages.reporting.inputs import LARGE, data_uri
from tests.browser import browser, needs_browser
from tests.project import SMALL, write_params
from tests.reporting.conftest import write_metrics, write_outs, write_train

HOSTILE = "<script>alert(1)</script>\"'><img_src=x_onerror=alert(2)>{{_7*7_}}$x$"
VOID = {"meta", "link", "img", "br"}
IMAGES = 3 + 2 * 2 * 2 + 3 + 2


class Page(HTMLParser):
    """The elements and the text of a page; fails on an element that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self._data, self._open = [], [], []
        report.main()
        self.html = Path("report/index.html").read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self._data.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._data).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_page_shows_every_result():
    page = Page()
    for text in (
        *("trained on 3 images", "only the 64 numbers", "from step 40 of 60; training stopped early", "82 % ± 1"),
        *("The cleanest of 9 images of Critter", "trained on 3", "held out 2", "usable, not needed 1"),
        *("blurred 2", "too-small 1", "train.learning_rate 0.01", "render.prompts.zoo a {} in the zoo"),
        *("report.title null", "base model starter/model", "images from folder images", "similarity 0.800"),
    ):
        assert text in page.text, text
    images = page.all("img")
    assert len(images) == IMAGES
    assert all(image["alt"] for image in images)
    assert "“a <critter> in the zoo”, seed 1" in [image["alt"] for image in images]
    assert page.text.index("in the zoo") < page.text.index(" & "), "prompts have the order of params.yaml"
    assert Page().html == page.html


@pytest.mark.parametrize(
    ("learned", "fall", "error", "verdict", "tile"),
    [
        (True, 11.74, 0.83, "Yes. {} 11.7 % (± 0.8) below {}. It", "−11.7 % ± 0.8"),
        (False, 0.01, 0.02, "No. {} 0.01 % (± 0.02) below {}, which may be chance. It", "−0.01 % ± 0.02"),
        (False, -3.04, 0.83, "No. {} 3.0 % (± 0.8) above {}. It", "+3.0 % ± 0.8"),
    ],
)
def test_verdict(learned: bool, fall: float, error: float, verdict: str, tile: str):
    write_train(learned=learned, test_fall_percent=fall, test_fall_stderr_percent=error)
    text = Page().text
    subject, reference = (
        "With the learned embedding, the loss on the held-out images is",
        "that with the initializer token",
    )
    assert verdict.format(subject, f"{reference} “dragon”") in text
    assert f"Loss on held-out images {tile}" in text
    assert ("Try more steps" in text) != learned


def test_metrics_that_do_not_exist_have_no_tile():
    assert "Image similarity 82" in Page().text
    write_metrics({}, without="image_similarity_gap_closed")
    assert "Image similarity" not in Page().text


def test_page_loads_nothing():
    page = Page()
    assert not page.all("script")
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        assert attributes.get("xlink:href", "#").startswith("#")
    text = re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]+", "", page.html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_text_is_escaped():
    write_outs({"x": HOSTILE + "{}"}, {"word": HOSTILE, "initializer": HOSTILE})
    write_params(
        Path(),
        SMALL | {"concept": {"placeholder_token": HOSTILE, "initializer_token": HOSTILE}, "report": {"title": HOSTILE}},
    )
    page = Page()
    assert not page.all("script")
    assert {image["src"][:11] for image in page.all("img")} == {"data:image/"}
    assert page.text.count(HOSTILE) > 10


def test_title():
    assert "<h1>&lt;critter&gt;</h1>" in Page().html
    write_params(Path(), SMALL | {"report": {"title": "My dragon"}})
    assert "<h1>My dragon</h1>" in Page().html


def test_progress_images_are_shown_in_order():
    folder = Path("data/embedding/progress")
    folder.mkdir()
    for step in (100, 0, 20):
        Image.new("RGB", (16, 16), (step, 0, 0)).save(folder / f"step-{step:06d}.png")
    assert "step 0 step 20 step 100" in Page().text


def test_large_images_are_scaled_down():
    Image.new("RGB", (64, 64)).save("small.png")
    Image.effect_noise((900, 600), 90).save("large.png")
    assert Path("large.png").stat().st_size > LARGE
    assert data_uri(Path("small.png"), "render").startswith("data:image/png;base64,")
    uri = data_uri(Path("large.png"), "render")
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < Path("large.png").stat().st_size


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        *(
            ("raw.json", "download"),
            ("manifest.csv", "filter"),
            ("curated/index.json", "curate"),
            ("train.json", "train"),
        ),
        *(("loss.csv", "train"), ("validation.csv", "train"), ("embedding/learned_embeds.safetensors", "train")),
        *(("renders/index.json", "render"), ("renders/zoo/word-0.png", "-f render"), ("metrics.json", "evaluate")),
    ],
)
def test_missing_inputs_are_reported_with_their_stage(name: str, stage: str):
    Path("data", name).unlink()
    with pytest.raises(SystemExit, match=rf"report: data/{name} cannot be read .*; run `dvc repro {stage}`"):
        report.main()


@needs_browser
def test_page_fits_a_phone_and_a_desktop(tmp_path: Path):
    write_params(Path(), SMALL | {"report": {"title": "<" + "w" * 90 + ">"}})
    report.main()
    with browser(tmp_path / "profile") as window:
        for width, shown in ((390, "narrow"), (1280, "wide")):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            window.get(Path("report/index.html").resolve().as_uri())
            fits = "return document.documentElement.scrollWidth <= innerWidth"
            assert window.execute_script(fits)
            window.execute_script("for (const details of document.querySelectorAll('details')) details.open = true;")
            assert window.execute_script(fits)
            window.execute_script("for (const image of document.images) image.loading = 'eager';")
            decoded = "return Promise.all([...document.images].map(i => i.decode())).then(() => document.images.length)"
            assert window.execute_script(decoded) == IMAGES
            visible = "return [...document.querySelectorAll('.curves svg')].find(svg => svg.clientWidth).classList[0]"
            assert window.execute_script(visible) == shown
        requests = (
            "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'))"
        )
        assert window.execute_script(requests) == []
