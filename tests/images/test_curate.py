"""The choice is clean and varied, a person's overrides are final, and the page writes them."""

import base64
import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from ruamel.yaml import YAML
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from stages import UserError
from stages.images.quality.manifest import build_manifest
from stages.images.quality.params import Filter
from stages.images.selection.curate import curate, read_manifest
from stages.images.selection.params import Curate
from stages.images.selection.resize import resize_to_square
from tests.browser import browser, needs_browser
from tests.images import corpus


def write_manifest(raw: Path) -> Path:
    """Filter the class Thing and return the folder of the outs."""
    manifest, features = build_manifest(raw, Filter(**{"class": "Thing", "duplicate_distance": 0, "max_noise": 255}), 1)
    manifest.to_csv(raw.parent / "manifest.csv", index=False)
    np.save(raw.parent / "features.npy", features)
    return raw.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clean images, five of them almost equal, and three defects."""
    images = {f"clean{i}": corpus.scene(256, 20 + i) for i in range(8)}
    for i in range(4):
        images[f"like{i}"] = image = corpus.scene(256, 20)
        image.paste((40 * i, 90, 30), (150 + 9 * i, 160, 230, 240 - 9 * i))
    images["blurred"] = corpus.scene(256, 40).filter(ImageFilter.GaussianBlur(6))
    raw = corpus.save(tmp_path_factory.mktemp("data"), small=corpus.scene(30, 41), **images)
    (raw / "Thing" / "broken.jpg").write_bytes(b"nothing")
    return write_manifest(raw)


def run(data: Path, out: Path, **params: object) -> tuple[dict, str]:
    """Return the index and the page."""
    section = Curate(**({"count": 5, "holdout": 2, "resolution": 64} | params))
    index, _, page = curate(data / "raw", *read_manifest(data / "manifest.csv", data / "features.npy"), section, out)
    return index, page


def sources(index: dict, *parts: str) -> list[str]:
    return [row["source"].removeprefix("Thing/") for part in parts or ("train", "holdout") for row in index[part]]


def test_choice_is_clean_varied_and_reproducible(data: Path, tmp_path: Path):
    index, page = run(data, tmp_path / "a", diversity=0.8)
    assert (len(index["train"]), len(index["holdout"]), len(set(sources(index)))) == (5, 2, 7)
    assert not set(sources(index)) & {"blurred.png", "small.png", "broken.jpg"}
    assert len({"like0.png", "like1.png", "like2.png", "like3.png", "clean0.png"} & set(sources(index, "train"))) <= 2
    assert (index, page) == run(data, tmp_path / "b", diversity=0.8)
    for row in index["train"] + index["holdout"]:
        with Image.open(tmp_path / "a" / row["file"]) as image:
            assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})
        with Image.open(data / "raw" / row["source"]) as image:
            assert (row["original_size"], row["crop"]) == (image.size[::-1], (0, 0))
        assert (tmp_path / "a" / row["file"]).read_bytes() == (tmp_path / "b" / row["file"]).read_bytes()


def test_overrides_are_final(data: Path, tmp_path: Path):
    best = sources(run(data, tmp_path / "a")[0])[0]
    manifest, _ = read_manifest(data / "manifest.csv", data / "features.npy")
    other = "like2.png" if best != "like2.png" else "like1.png"
    sha256 = manifest.set_index("file")["sha256"][f"Thing/{other}"]
    index, _ = run(data, tmp_path / "b", include=["blurred.png", sha256[:10]], exclude=[best, "clean[67].png"])
    assert sources(index)[:2] == ["blurred.png", other]
    assert index["train"][0]["reason"] == "included by blurred.png"
    assert not {best, "clean6.png", "clean7.png"} & set(sources(index))
    patterns = {best: best, "clean6.png": "clean[67].png", "clean7.png": "clean[67].png"}
    assert index["excluded"] == {f"Thing/{name}": pattern for name, pattern in patterns.items()}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"include": ["clean9.png"]}, "the most similar name is clean"),
        ({"include": ["broken.jpg"]}, "which has no image .not-an-image"),
        ({"include": ["clean0.png"], "exclude": ["clean*.png"]}, "both match"),
        ({"include": ["clean*.png"]}, "more than curate.count"),
        ({"count": 11}, "12 of 15 in the class are usable .rejected: 1 blurred, 1 not-an-image, 1 too-small"),
    ],
)
def test_impossible_choices_are_errors(data: Path, tmp_path: Path, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        run(data, tmp_path / "a", **params)


@pytest.mark.parametrize("fault", ["missing", "truncated", "other features"])
def test_broken_manifest_names_the_stage_to_rerun(data: Path, tmp_path: Path, fault: str):
    content = (data / "manifest.csv").read_bytes()
    if fault != "missing":
        (tmp_path / "manifest.csv").write_bytes(content[:-40] if fault == "truncated" else content)
    np.save(tmp_path / "features.npy", np.zeros((3, 4)) if fault == "other features" else np.zeros((15, 4)))
    with pytest.raises(UserError, match="dvc repro filter"):
        run(tmp_path, tmp_path / "a")


@pytest.mark.parametrize("box", [(0, 0, 256, 256), (20, 30, 200, 210), (90, 0, 256, 240), (60, 60, 190, 160)])
@pytest.mark.parametrize("contained", [True, False])
def test_part_of_training_image_is_not_held_out(tmp_path: Path, box: tuple, contained: bool):
    """The other image is worse, and would not be held out otherwise."""
    photo, other = corpus.photo(256, 1), corpus.photo(256, 2).filter(ImageFilter.GaussianBlur(1.2))
    part = corpus.saved(ImageOps.mirror(photo.crop(box)), "JPEG", quality=85)
    raw = corpus.save(tmp_path, photo=photo, part=part, other=other)
    data, options = write_manifest(raw), {"count": 1, "holdout": 1, "diversity": 0}
    include = ["photo.png" if contained else "part.png"]
    index, _ = run(data, tmp_path / "a", include=include, **options)
    assert sources(index) == [*include, "other.png"]
    with pytest.raises(UserError, match=r"only 0 usable images show no part|curate needs 1 images"):
        run(data, tmp_path / "a", include=include, exclude=["other.png"], **options)


def test_square_is_not_distorted_and_transparency_not_black():
    wide = Image.new("RGBA", (90, 30), (0, 0, 0, 0))
    wide.paste((200, 30, 30, 255), (10, 5, 35, 30))
    content = corpus.saved(wide, "PNG")
    for background in ("white", "border"):
        square, _ = resize_to_square(content, 90, "pad", background)
        assert square.getpixel((2, 2)) == square.getpixel((60, 45)) == (255, 255, 255)
        assert square.getpixel((22, 48)) == (200, 30, 30)
    assert (np.asarray(resize_to_square(content, 30, "crop", "white")[0])[:, :, 1] < 100).sum() == 25 * 25
    green = corpus.saved(Image.new("RGB", (60, 20), (20, 160, 40)), "PNG")
    assert resize_to_square(green, 60, "pad", "border")[0].getcolors() == [(3600, (20, 160, 40))]


@pytest.mark.parametrize(
    ("size", "subject", "fit", "crop"),
    [
        ((300, 100), (200, 20, 260, 80), "pad", (0, 0)),
        ((300, 100), (200, 20, 260, 80), "crop", (0, 90)),  # the square begins at 180 of 300, and 100 become 50
        ((100, 300), (20, 0, 80, 60), "crop", (0, 0)),
        ((100, 300), (20, 200, 80, 260), "crop", (90, 0)),
    ],
    ids=str,
)
def test_size_and_crop_are_recorded_as_sdxl_defines_them(size: tuple, subject: tuple, fit: str, crop: tuple):
    image = Image.new("RGB", size, "white")
    image.paste((200, 30, 30), subject)
    _, sizes = resize_to_square(corpus.saved(image, "PNG"), 50, fit, "white")
    assert sizes["original_size"] == size[::-1]
    assert sizes["crop"] == pytest.approx(crop, abs=1)


@needs_browser
def test_clicks_on_the_page_change_the_choice(data: Path, tmp_path: Path):
    index, page = run(data, tmp_path / "a", exclude=["small.png"])
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "raw").symlink_to(data / "raw")
    (worse, second), rest = sources(index)[:2], [f"clean{i}.png" for i in range(8)]
    better = next(name for name in rest if name not in sources(index, "train"))
    with browser(tmp_path / "profile") as window:
        window.get((tmp_path / "page.html").as_uri())
        assert window.execute_script("return document.querySelectorAll('.card').length") == 15
        assert window.execute_script("return [...document.images].every(i => i.src.startsWith('data:'))")
        exclude, include, by_key = (
            window.find_element(By.CSS_SELECTOR, f'.card[data-file="{file}"] .{mark}')
            for file, mark in ((worse, "exclude"), (better, "include"), (second, "include"))
        )
        for button in (exclude, include):
            window.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
        by_key.send_keys(Keys.ENTER)
        assert exclude.get_attribute("aria-pressed") == "true"
        lines = window.find_element(By.ID, "yaml").text
        window.refresh()
        assert window.find_element(By.ID, "yaml").text == lines, "marks survive a reload"
        exclude = window.find_element(By.CSS_SELECTOR, f'.card[data-file="{worse}"] .exclude')
        window.execute_script("arguments[0].closest('.card').dataset.file = 'a\\ufffe\\u0085.png'; show()", exclude)
        renamed = window.find_element(By.ID, "yaml").text
    assert YAML(typ="safe").load(renamed)["exclude"] == ["small.png", "a\ufffe\x85.png"]
    overrides = YAML(typ="safe").load("\n".join(line.strip() for line in lines.splitlines()))
    assert overrides["exclude"] == ["small.png", worse]
    changed, _ = run(data, tmp_path / "b", **overrides)
    assert set(sources(changed)) >= {better, second}
    assert worse not in sources(changed)


@needs_browser
def test_page_scrolls_prints_and_shows_images_in_full_size(data: Path, tmp_path: Path):
    _, page = run(data, tmp_path / "a")
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "raw").symlink_to(data / "raw")
    with browser(tmp_path / "profile") as window:
        window.set_window_size(500, 500)
        window.get((tmp_path / "page.html").as_uri())
        body, top = window.find_element(By.TAG_NAME, "body"), "return scrollY"
        for key in (Keys.PAGE_DOWN, Keys.SPACE, Keys.END):
            before = window.execute_script(top)
            body.send_keys(key)
            WebDriverWait(window, 5).until(lambda w, before=before: w.execute_script(top) > before)
        pages = base64.b64decode(window.print_page()).count(b"/Type /Page\n")
        assert pages >= 2

        first = window.find_element(By.CSS_SELECTOR, "button.well")
        first.send_keys(Keys.ENTER)
        viewer = window.find_element(By.ID, "viewer")
        image = viewer.find_element(By.TAG_NAME, "img")
        WebDriverWait(window, 5).until(lambda w: w.execute_script("return arguments[0].naturalWidth", image) == 256)
        viewer.send_keys(Keys.ARROW_RIGHT)
        assert image.get_attribute("src").endswith(
            window.find_elements(By.CLASS_NAME, "well")[1].get_attribute("data-raw")
        )
        viewer.find_element(By.NAME, "exclude").click()
        assert window.find_elements(By.CLASS_NAME, "card")[1].get_attribute("data-mark") == "exclude"
        viewer.send_keys(Keys.ESCAPE)
        assert not viewer.is_displayed()
        window.find_element(By.ID, "reset").click()
        assert window.find_elements(By.CLASS_NAME, "card")[1].get_attribute("data-mark") == ""
        assert window.get_log("browser") == []


def test_hostile_names_are_text_on_the_page(tmp_path: Path):
    names = ["<img src=x onerror=alert()>", "a\"b'c", "{{7*7}}", "<script>"]
    raw = corpus.save(tmp_path, **{name: corpus.scene(128, 50 + i) for i, name in enumerate(names)})
    _, page = run(write_manifest(raw), tmp_path / "a", count=1, holdout=1, include=["<script>.png"])
    files = [html.unescape(name) for name in re.findall('data-file="([^"]*)"', page)]
    assert sorted(files) == sorted(f"{name}.png" for name in names)
    assert "<img src=x" not in page
    assert page.count("<script") == 2  # the page's own


def test_captions_are_copied_beside_the_curated_images(data: Path, tmp_path: Path):
    caption = data / "raw" / "Thing" / "clean1.png.txt"
    caption.write_text("a {} with edges", encoding="utf-8-sig")
    index, _ = run(data, tmp_path / "a", include=["clean1.png"])
    assert sources(index)[0] == "clean1.png"
    assert (tmp_path / "a" / "train" / "00.txt").read_text() == "a {} with edges"
    assert len(list((tmp_path / "a").rglob("*.txt"))) == 1
    caption.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"clean1\.png\.txt is not UTF-8"):
        run(data, tmp_path / "b", include=["clean1.png"])
    caption.unlink()
