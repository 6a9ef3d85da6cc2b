"""The page that the stage writes: complete, self-contained, safe, and the same every time."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from stages import report
from stages.reporting.inputs import LARGE, data_uri
from tests.browser import browser, needs_browser
from tests.outs import PROMPTS, write_curated, write_embedding, write_renders
from tests.project import SMALL

DATA = Path("data")
HOSTILE = "<script>alert(1)</script>\"'><img_src=x_onerror=alert(2)>{{_7*7_}}"
METRICS = {"image_similarity_word": 0.84, "image_similarity_initializer": 0.52, "image_similarity_real": 0.91}
METRICS |= {"image_similarity_gap_closed": 0.8205, "prompt_similarity_ratio": 0.9667}
ALL_METRICS = METRICS | {f"{name}_stderr": 0.01 for name in METRICS} | {"image_similarity_word.a": 0.8}
TRAIN = {"learned": True, "test_fall_percent": 11.74, "test_fall_stderr_percent": 0.83}
TRAIN |= {"best_step": 40, "steps_run": 60, "stopped_early": True}
TRAIN |= {"start": "random draw 1", "nearest_words_start": "owl, fox", "nearest_words": "dragon, cat"}
USED = ["train0", "train1", "train2", "holdout0", "holdout1", "spare"]
REJECTED = {"a": "blurred,sharpness 0.1", "b": "blurred,sharpness 0.2", "c": "too-small,20 px"}
NAVY = Image.new("RGB", (16, 16), "navy")
IMAGES = 3 + 2 * 2 * 2 + 3 + 2


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the outs of all other stages."""
    monkeypatch.chdir(tmp_path)
    write_curated(DATA / "curated")
    write_renders(DATA / "renders", lambda subject, seed: NAVY)
    embedding = DATA / "embedding" / "learned_embeds.safetensors"
    write_embedding(embedding, np.zeros((2, 32)), base_model="starter/model", seed="0")
    rows = [f"Critter/{name}.png,keep,," for name in USED]
    rows += [f"Critter/{name}.png,reject,{reason}" for name, reason in REJECTED.items()]
    (DATA / "manifest.csv").write_text("\n".join(["file,verdict,reason,detail", *rows]))
    (DATA / "raw.json").write_text('{"source": "folder", "name": "images", "content_sha256": "abab"}')
    (DATA / "loss.csv").write_text("step,loss\n1,0.1\n2,0.2\n3,0.1\n")
    (DATA / "validation.csv").write_text("step,relative,stderr,loss\n0,1,0,0.1\n20,0.9,0.1,0.1\n40,0.8,0.1,0.1\n")
    write(**TRAIN)
    write("metrics", **ALL_METRICS)
    configure()


def write(name: str = "train", **values: object) -> None:
    DATA.joinpath(f"{name}.json").write_text(json.dumps(values))


def configure(token: str = "<critter>", initializer: str = "dragon", prompts: dict = PROMPTS, **title: str) -> None:
    concept = {"placeholder_token": token, "initializer_token": initializer}
    render = SMALL["render"] | {"prompts": prompts}
    # YAML reads JSON, and this keeps the order of the prompts.
    Path("params.yaml").write_text(json.dumps(SMALL | {"concept": concept, "render": render, "report": title}))


def page() -> ElementTree.Element:
    """Write the page and parse it, which fails if it is not well-formed."""
    report.main()
    return ElementTree.parse("report/index.html").getroot()


def text() -> str:
    return " ".join(" ".join(page().itertext()).split())


def test_page_shows_every_result():
    shown = text()
    for part in (
        *("trained on 3 images", "only the 64 numbers", "from step 40 of 60; training stopped early", "82 % ± 1"),
        *("The start was the random draw 1", "to the start are owl, fox", "to the embedding are dragon, cat"),
        *("The cleanest of 9 images of Critter", "trained on 3", "held out 2", "usable, not needed 1"),
        *("blurred 2", "too-small 1", "train.learning_rate 0.01", "render.prompts.zoo a {} in the zoo"),
        *("report.title null", "base model starter/model", "images from folder images", "similarity 0.800"),
    ):
        assert part in shown, part
    assert shown.index("in the zoo") < shown.index(" & "), "prompts have the order of params.yaml"
    images = [image.attrib for image in page().iter("img")]
    assert len(images) == IMAGES
    assert all(image["alt"] for image in images)
    assert "“a <critter> in the zoo”, seed 1" in [image["alt"] for image in images]


@pytest.mark.parametrize(
    ("learned", "fall", "error", "verdict", "tile"),
    [
        (True, 11.74, 0.83, "Yes. {} 11.7 % (± 0.8) below {}. It", "−11.7 % ± 0.8"),
        (False, 0.01, 0.02, "No. {} 0.01 % (± 0.02) below {}, which may be chance. It", "−0.01 % ± 0.02"),
        (False, -3.04, 0.83, "No. {} 3.0 % (± 0.8) above {}. It", "+3.0 % ± 0.8"),
    ],
)
def test_verdict(learned: bool, fall: float, error: float, verdict: str, tile: str):
    write(**TRAIN | {"learned": learned, "test_fall_percent": fall, "test_fall_stderr_percent": error})
    subject, reference = (
        "With the learned embedding, the loss on the held-out images is",
        "that with the initializer token",
    )
    assert verdict.format(subject, f"{reference} “dragon”") in text()
    assert f"Loss on held-out images {tile}" in text()
    assert ("Try concept.initialization" in text()) != learned


def test_page_loads_nothing_and_is_the_same_twice():
    elements = list(page().iter())
    first = Path("report/index.html").read_bytes()
    for element in elements:
        assert element.tag != "script"
        for name, value in element.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#"))
    rest = re.sub(rb"data:image/\w+;base64,[A-Za-z0-9+/=]+", b"", first)
    assert not re.search(rb"https?:|//[a-z]|@import|url\((?!#)", rest)
    policy = next(element.get("content") for element in elements if element.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    page()
    assert Path("report/index.html").read_bytes() == first


def test_hostile_text_is_escaped():
    prompts = {"x": HOSTILE + "{}"}
    write_renders(DATA / "renders", lambda subject, seed: NAVY, prompts)
    configure("<b>" + HOSTILE, HOSTILE, prompts, title=HOSTILE)
    assert not [element for element in page().iter() if element.tag == "script" or element.get("onerror")]
    assert text().count(HOSTILE) > 5


def test_optional_parts():
    assert page().find(".//h1").text == "<critter>"
    assert "Image similarity 82" in text()
    configure(title="My dragon")
    write("metrics", **{name: value for name, value in ALL_METRICS.items() if "gap_closed" not in name})
    (DATA / "embedding" / "progress").mkdir()
    for step in (100, 0, 20):
        NAVY.save(DATA / "embedding" / "progress" / f"step-{step:06d}.png")
    assert page().find(".//h1").text == "My dragon"
    assert "Image similarity" not in text()
    assert "step 0 step 20 step 100" in text()


def test_large_images_are_scaled_down():
    Image.effect_noise((900, 600), 90).save("large.png")
    assert Path("large.png").stat().st_size > LARGE
    assert data_uri(DATA / "curated/train/00.png", "curate").startswith("data:image/png;base64,")
    uri = data_uri(Path("large.png"), "render")
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < Path("large.png").stat().st_size


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("download", ["raw.json"]),
        ("filter", ["manifest.csv"]),
        ("curate", ["curated/index.json"]),
        ("train", ["train.json", "loss.csv", "validation.csv", "embedding/learned_embeds.safetensors"]),
        ("-f render", ["renders/zoo/word-0.png"]),
        ("render", ["renders/index.json"]),
        ("evaluate", ["metrics.json"]),
    ],
)
def test_missing_and_damaged_inputs_are_reported_with_their_stage(stage: str, names: list[str]):
    for path in (DATA / name for name in names):
        content = path.read_bytes()
        path.unlink()
        for damaged in (None, b"", b"[]", content.partition(b"\n")[0][:60]):
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(SystemExit, match=rf"report: {path} cannot be read .*; run `dvc repro {stage}`"):
                report.main()
        path.write_bytes(content)


@needs_browser
def test_page_fits_a_phone_and_a_desktop(tmp_path: Path):
    configure(title="<" + "w" * 90 + ">")
    report.main()
    with browser(tmp_path / "profile") as window:
        for width, curves in ((390, "narrow"), (1280, "wide")):
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
            assert window.execute_script(visible) == curves
        requests = (
            "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'))"
        )
        assert window.execute_script(requests) == []
