"""The page as the stage writes it: whole, self-contained, safe, the same every time."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from stages import report
from stages.reporting.inputs import EMBEDDED_AS_IS, picture
from tests.browser import browser, needs_browser
from tests.project import SMALL, write_params
from tests.reporting.conftest import build

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"
VOID = {"meta", "link", "img", "br", "line", "polygon", "polyline", "hr", "input"}


class Page(HTMLParser):
    """Every element with its attributes, and the text; fails on one that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.words, self._open = [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def made(home: Path) -> str:
    report.main()
    return (home / "report" / "index.html").read_text(encoding="utf-8")


def test_the_page_tells_it_all(home: Path):
    page = Page(made(home))
    for words in (
        "Three pictures taught",
        "11.7 % (± 0.8) below",
        "82 %",
        "Of 9 pictures of Critter",
        "a",
        "in the zoo",
    ):
        assert words in page.text, words
    assert [
        row
        for row in ("learnt from 3", "held out 2", "usable, not needed 1", "blurred 2", "duplicate 1")
        if row not in page.text
    ] == []
    images = page.all("img")
    assert len(images) == 3 + 2 * 2 * 2 + 3 + 2
    assert all(image["alt"] for image in images)
    assert "“a <critter> in the zoo”, seed 1" in [image["alt"] for image in images]
    assert page.text.index("in the zoo") < page.text.index(" & "), "prompts stand in the order of params"
    assert "train.learning_rate 0.01" in page.text
    assert "render.prompts.zoo a {} in the zoo" in page.text


def test_the_same_bytes_twice(home: Path):
    assert made(home) == made(home)


def test_nothing_is_asked_of_the_network(home: Path):
    html = made(home)
    page = Page(html)
    assert not page.all("script")
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]+", "", html))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_words_stay_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    build(tmp_path, HOSTILE.replace(" ", "\u00a0"), "dragon", {"x": HOSTILE + "{}"}, name="<b>.png")
    values = SMALL | {"concept": {"placeholder_token": HOSTILE.replace(" ", "_"), "initializer_token": HOSTILE}}
    write_params(tmp_path, values | {"report": {"title": HOSTILE}})
    page = Page(made(tmp_path))
    assert not page.all("script")
    assert not page.all("b")[0].get("onerror")
    assert {image["src"][:11] for image in page.all("img")} == {"data:image/"}
    assert HOSTILE in page.text
    assert "49" not in page.all("img")[0]["alt"]


def test_the_title_is_the_word_or_what_is_wished(home: Path):
    assert "<h1>&lt;critter&gt;</h1>" in made(home)
    write_params(home, SMALL | {"report": {"title": "My dragon"}})
    assert "<h1>My dragon</h1>" in made(home)


def test_pictures_drawn_on_the_way_are_shown(home: Path):
    folder = home / "data" / "embedding" / "progress"
    folder.mkdir()
    for step in (0, 20, 100):
        Image.new("RGB", (16, 16), (step, 0, 0)).save(folder / f"step-{step:06d}.png")
    page = Page(made(home))
    assert "step 0 step 20 step 100" in page.text


def test_large_pictures_are_made_smaller(tmp_path: Path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (64, 64)).save(small)
    Image.effect_noise((900, 600), 90).save(large)
    assert large.stat().st_size > EMBEDDED_AS_IS
    assert picture(small).startswith("data:image/png;base64,")
    assert picture(large).startswith("data:image/jpeg;base64,")
    assert len(picture(large)) < large.stat().st_size


@pytest.mark.parametrize(
    "name",
    [
        *("raw.json", "manifest.csv", "curated/index.json", "train.json", "loss.csv", "validation.csv"),
        *("renders/index.json", "renders/zoo/word-0.png", "metrics.json", "embedding/learned_embeds.safetensors"),
    ],
)
def test_what_is_missing_is_one_sentence(home: Path, name: str):
    (home / "data" / name).unlink()
    with pytest.raises(SystemExit, match=rf"report: data/{name} cannot be read .*; run `dvc repro"):
        report.main()


@needs_browser
def test_in_a_browser_it_fits_a_phone_and_a_desk(home: Path, tmp_path: Path):
    write_params(home, SMALL | {"report": {"title": "<" + "w" * 90 + ">"}})
    made(home)
    with browser(tmp_path / "profile") as window:
        for width in (390, 1280):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            window.get((home / "report" / "index.html").resolve().as_uri())
            fits = "return document.documentElement.scrollWidth <= innerWidth"
            assert window.execute_script(fits)
            window.execute_script("for (const details of document.querySelectorAll('details')) details.open = true;")
            assert window.execute_script(fits)
            window.execute_script("for (const image of document.images) image.loading = 'eager';")
            decoded = "return Promise.all([...document.images].map(i => i.decode())).then(() => document.images.length)"
            assert window.execute_script(decoded) == 3 + 2 * 2 * 2 + 3 + 2
        loaded = "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'))"
        assert window.execute_script(loaded) == []
