"""The choice: clean, varied, a person's word final; and the page on which the word is given."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from ruamel.yaml import YAML
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from stages import UserError
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.selection.curate import curate, read
from stages.images.selection.params import Curate
from stages.images.selection.resize import resize_to_square
from tests.browser import browser, needs_browser
from tests.images import corpus


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clean pictures, five of them all but alike, and three defects."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "raw" / "Thing"
    folder.mkdir(parents=True)
    for i in range(8):
        corpus.scene(256, 20 + i).save(folder / f"clean{i}.png")
    for i in range(4):
        image = corpus.scene(256, 20)
        image.paste((40 * i, 90, 30), (150 + 9 * i, 160, 230, 240 - 9 * i))
        image.save(folder / f"like{i}.png")
    corpus.scene(256, 40).filter(ImageFilter.GaussianBlur(6)).save(folder / "blurred.png")
    corpus.scene(30, 41).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    build_manifest(
        home / "raw",
        Filter(**{"class": "Thing", "duplicate_distance": 0}),
        1,
        home / "manifest.csv",
        home / "features.npy",
    )
    return home


def make(home: Path, out: Path, **section: object) -> tuple[dict, str]:
    """=> (index, page)."""
    params = Curate(**({"count": 5, "holdout": 2, "resolution": 64} | section))
    rows, features = read(home / "manifest.csv", home / "features.npy")
    index, _, page = curate(home / "raw", rows, features, params, out)
    return index, page


def sources(index: dict, part: str = "train") -> list[str]:
    return [entry["source"].removeprefix("Thing/") for entry in index[part]]


def test_the_choice_is_clean_and_the_same_twice(home: Path, tmp_path: Path):
    index, page = make(home, tmp_path / "a")
    assert (len(index["train"]), len(index["holdout"])) == (5, 2)
    assert not set(sources(index) + sources(index, "holdout")) & {"blurred.png", "small.png", "broken.jpg"}
    assert len(set(sources(index) + sources(index, "holdout"))) == 7
    assert (index, page) == make(home, tmp_path / "b")
    for entry in index["train"] + index["holdout"]:
        with Image.open(tmp_path / "a" / entry["file"]) as image:
            assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})
        assert (tmp_path / "a" / entry["file"]).read_bytes() == (tmp_path / "b" / entry["file"]).read_bytes()


def test_pictures_that_are_all_but_alike_do_not_crowd(home: Path, tmp_path: Path):
    alike = {f"like{i}.png" for i in range(4)} | {"clean0.png"}
    varied, _ = make(home, tmp_path / "varied", diversity=0.8)
    assert len(alike & set(sources(varied))) <= 2


def test_a_persons_word_is_final(home: Path, tmp_path: Path):
    best = sources(make(home, tmp_path / "a")[0])[0]
    rows, _ = read(home / "manifest.csv", home / "features.npy")
    other = "like2.png" if best != "like2.png" else "like1.png"
    sha = rows.set_index("file")["sha256"][f"Thing/{other}"]
    index, _ = make(home, tmp_path / "b", include=["blurred.png", sha[:10]], exclude=[best, "clean[67].png"])
    assert sources(index)[:2] == ["blurred.png", other]
    assert index["train"][0]["reason"] == "included by blurred.png"
    assert not {best, "clean6.png", "clean7.png"} & set(sources(index) + sources(index, "holdout"))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"include": ["clean9.png"]}, "the nearest name is clean"),
        ({"include": ["broken.jpg"]}, "no picture to give"),
        ({"include": ["clean0.png"], "exclude": ["clean*.png"]}, "both name"),
        ({"include": ["clean*.png"]}, "more than curate.count"),
        ({"count": 11}, "of 15 in the class 12 are usable"),
    ],
)
def test_what_cannot_be_is_one_sentence(home: Path, tmp_path: Path, section: dict, words: str):
    with pytest.raises(UserError, match=words):
        make(home, tmp_path / "a", **section)


def test_a_square_is_never_squashed_and_never_black(tmp_path: Path):
    wide = Image.new("RGBA", (90, 30), (0, 0, 0, 0))
    wide.paste((200, 30, 30, 255), (10, 5, 35, 30))
    content = corpus.saved(wide, "PNG")
    for background in ("white", "border"):
        made = resize_to_square(content, 90, "pad", background)
        assert made.getpixel((2, 2)) == made.getpixel((60, 45)) == (255, 255, 255)
        assert made.getpixel((22, 48)) == (200, 30, 30)
    red = np.asarray(resize_to_square(content, 30, "crop", "white"))[:, :, 1] < 100
    assert red.sum() == 25 * 25
    green = Image.new("RGB", (60, 20), (20, 160, 40))
    assert np.unique(
        np.asarray(resize_to_square(corpus.saved(green, "PNG"), 60, "pad", "border")).reshape(-1, 3), axis=0
    ).tolist() == [[20, 160, 40]]


@needs_browser
def test_three_clicks_give_lines_that_change_the_choice_as_clicked(home: Path, tmp_path: Path):
    index, page = make(home, tmp_path / "a", exclude=["small.png"])
    (tmp_path / "page.html").write_text(page)
    out, second = sources(index)[0], sources(index)[1]
    into = next(f"clean{i}.png" for i in range(8) if f"clean{i}.png" not in sources(index))
    with browser(tmp_path / "profile") as window:
        window.get((tmp_path / "page.html").as_uri())
        assert window.execute_script("return document.querySelectorAll('.card').length") == 15
        assert window.execute_script("return [...document.images].every(i => i.src.startsWith('data:'))")
        find(window, out, ".exclude").click()
        find(window, into, ".include").click()
        find(window, second, ".include").send_keys(Keys.ENTER)
        window.execute_script("document.querySelectorAll('.card[data-file=\"small.png\"] .include').length")
        lines = window.find_element(By.ID, "yaml").text
        pressed = window.execute_script(
            f"return document.querySelector('.card[data-file=\"{out}\"] .exclude').ariaPressed"
        )
    assert pressed == "true"
    pasted = YAML(typ="safe").load("curate:\n  count: 5\n  holdout: 2\n  resolution: 64\n" + _indented(lines))["curate"]
    assert pasted["exclude"] == ["small.png", out]
    changed, _ = make(home, tmp_path / "b", **pasted)
    assert set(sources(changed)) >= {into, second}
    assert out not in sources(changed) + sources(changed, "holdout")


def find(window: WebDriver, file: str, button: str) -> WebElement:
    """=> a button of the card of `file`."""
    return window.find_element(By.CSS_SELECTOR, f'.card[data-file="{file}"] {button}')


def _indented(lines: str) -> str:
    return "\n".join("  " + line.strip() for line in lines.splitlines())


@needs_browser
def test_hostile_names_are_text_on_the_page(tmp_path: Path):
    folder = tmp_path / "raw" / "Thing"
    folder.mkdir(parents=True)
    names = [
        "<img src=x onerror=document.title='owned'>.png".replace("/", ""),
        "a\"b'c.png",
        "{{7*7}}.png",
        "</script>".replace("/", "") + ".png",
    ]
    for i, name in enumerate(names):
        corpus.scene(128, 50 + i).save(folder / name)
    build_manifest(
        tmp_path / "raw", Filter(**{"class": "Thing"}), 1, tmp_path / "manifest.csv", tmp_path / "features.npy"
    )
    _, page = make(tmp_path, tmp_path / "a", count=1, holdout=1, include=[names[0]])
    (tmp_path / "page.html").write_text(page)
    with browser(tmp_path / "profile") as window:
        window.get((tmp_path / "page.html").as_uri())
        assert window.execute_script("return document.title") == "Thing: 1 of 4 pictures"
        assert set(
            window.execute_script("return [...document.querySelectorAll('.card')].map(c => c.dataset.file)")
        ) == set(names)
        assert json.loads(window.find_element(By.ID, "yaml").text.splitlines()[0].partition(":")[2]) == [names[0]]
