"""The page that the stage writes: complete, self-contained, safe, and the same every time."""

import ast
import base64
import hashlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from stages import report
from stages.reporting.inputs import LARGE, data_uri
from tests.browser import browser, needs_browser
from tests.outs import PROMPTS, write_curated, write_embedding, write_renders
from tests.project import SMALL
from tests.tiny import tiny_model

DATA = Path("data")
HOSTILE = "<script>alert(1)</script>\"'><img_src=x_onerror=alert(2)>{{_7*7_}}"
LIKENESS = {"word": 0.84, "initializer": 0.52, "real": 0.91, "gap_closed": 0.8205, "word.a": 0.8, "mine": 0.7}
ESTIMATES = {f"image_similarity_{name}": value for name, value in LIKENESS.items()}
ESTIMATES |= {"prompt_similarity_word": 0.3, "prompt_similarity_initializer": 0.31, "prompt_similarity_ratio": 0.9667}
ESTIMATES |= {"image_gallery_recall_word": 0.75, "image_gallery_recall_initializer": 0.25}
ESTIMATES |= {"image_gallery_recall_chance": 0.04}
TRAIN = {"learned": True, "test_fall_percent": 11.74, "test_fall_stderr_percent": 0.83}
TRAIN |= {"best_step": 40, "steps_run": 60, "stopped_early": True}
TRAIN |= {"start": "random draw 1", "nearest_words_start": "owl, fox", "nearest_words": "dragon, cat"}
USED = ["train0", "train1", "train2", "holdout0", "holdout1", "spare"]
REJECTED = {"a": "blurred,sharpness 0.1", "b": "blurred,sharpness 0.2", "c": "too-small,20 px"}
NAVY = Image.new("RGB", (16, 16), "navy")
UNUSED = ["a", "c", "spare"]  # b cannot be decoded
IMAGES = 3 + 2 * 2 * 2 + 3 + 2 + len(UNUSED)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the outs of all other stages."""
    monkeypatch.chdir(tmp_path)
    write_curated(DATA / "curated")
    write_renders(DATA / "renders", lambda subject, seed: NAVY)
    embedding = DATA / "embedding" / "learned_embeds.safetensors"
    write_embedding(embedding, np.zeros((2, 32)), base_model="starter/model", versions='{"torch": "2.13.0"}')
    rows = [f"Critter/{name}.png,ab,keep,," for name in USED]
    rows += [f"Critter/{name}.png,{'ab' if name in UNUSED else ''},reject,{REJECTED[name]}" for name in REJECTED]
    (DATA / "manifest.csv").write_text("\n".join(["file,phash,verdict,reason,detail", *rows]))
    (DATA / "raw" / "Critter").mkdir(parents=True)
    for name in UNUSED:
        NAVY.save(DATA / "raw" / "Critter" / f"{name}.png")
    (DATA / "raw.json").write_text('{"source": "folder", "name": "images", "content_sha256": "abab"}')
    (DATA / "loss.csv").write_text("step,loss\n1,0.1\n2,0.2\n3,0.1\n")
    (DATA / "validation.csv").write_text("step,relative,stderr,loss\n0,1,0,0.1\n20,0.9,0.1,0.1\n40,0.8,0.1,0.1\n")
    write(**TRAIN)
    write("metrics", **ESTIMATES, closer_to_real=True)
    write_estimates(ESTIMATES)
    configure()


def write_estimates(estimates: dict[str, float]) -> None:
    rows = [f"{name},{value},{value - 0.02:.4f},{value + 0.02:.4f}" for name, value in estimates.items()]
    (DATA / "estimates.csv").write_text("\n".join(["name,value,low,high", *rows, "image_diversity_word,0.2,,"]))


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
        *("learned from 3 images", "only the 64 numbers", "from step 40 of 60; training stopped early"),
        *("82 % 80 % to 84 %", "75 % of them are recognized", "Guessing would give 4 %", "0.200 – Mean distance"),
        *("The start was the random draw 1", "to the start are owl, fox", "to the embedding are dragon, cat"),
        *("The cleanest of 9 images of Critter", "trained on 3", "held out 2", "usable, not needed 1"),
        *(
            "blurred 2",
            "too-small 1",
            "too-small 20 px c.png",
            "no image blurred sharpness 0.2 b.png",
            "render.prompts.zoo a {} in the zoo",
        ),
        *("train.learning_rate 0.01", "render.guidance_scale 2.0 7.5", "evaluate.clip starter/clip evaluate.dino"),
        *("base model starter/model", "version of torch 2.13.0", "images from folder images", "likeness 0.800"),
        *("stable-diffusion-webui/embeddings/critter.safetensors", "a embedding:critter & embedding:critter"),
    ):
        assert part in shown, part
    assert shown.index("in the zoo") < shown.index(" & "), "prompts have the order of params.yaml"
    images = [image for image in page().iter("img") if image.get("src")]
    assert len(images) == IMAGES
    assert all(image.get("alt") for image in images)
    assert "“a <critter> in the zoo”, seed 1" in [image.get("alt") for image in images]


def test_images_that_the_user_excluded_say_so():
    path = DATA / "curated" / "index.json"
    excluded = {"Critter/spare.png": "s*.png", "Critter/a.png": "a.png"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"excluded": excluded}))
    shown = text()
    assert "excluded by s*.png spare.png" in shown
    assert "held out 2 excluded 2 blurred 1 too-small 1" in shown


def write_snapshots(**chosen: str) -> None:
    """Add renders and estimates of the snapshots of steps 20 and 60; `word` is of step 40."""
    path, files = DATA / "renders" / "index.json", {"word": "data/embedding/learned_embeds.safetensors"}
    index, estimates = json.loads(path.read_text()), ESTIMATES | {"image_tradeoff_word": 0.89}
    for step, similarity in ((20, 0.7), (60, 0.9)):
        name = f"step-{step:06d}"
        files[name] = f"data/embedding/snapshots/{name}.safetensors"
        write_embedding(Path(files[name]), np.full((2, 32), step), step=str(step))
        index["subjects"][name] = f"step {step}"
        index["cells"] += [row | {"subject": name} for row in index["cells"] if row["subject"] == "word"]
        estimates |= {f"image_{key}_{name}": similarity for key in ("similarity", "similarity_gap_closed", "tradeoff")}
        estimates |= {f"prompt_similarity_{name}": 1 - similarity, f"image_similarity_{name}.a": similarity + 0.05}
    path.write_text(json.dumps(index | {"embeddings": files}))
    write_estimates(estimates)
    write("metrics", closer_to_real=True, **chosen)


def test_snapshots_are_shown_over_the_steps():
    write_snapshots()
    shown = text()
    assert "measure dragon <critter> real images" in shown, "not in the first table"
    assert "measure step 20 <critter> step 60 what it means" in shown
    assert "Gap closed, CLIP 70 % 68 % to 72 % 82 % 80 % to 84 % 90 %" in shown
    assert "step 20 likeness 0.750 step 60 likeness 0.950" in shown
    for part in ("point is the embedding with the lowest validation loss.", "likeness, by CLIP", "tradeoff of both"):
        assert part in shown, part
    assert len([image for image in page().iter("img") if image.get("src")]) == IMAGES + 2 * 2
    (label,) = [value for item in page().iter() if "3 steps" in (value := item.get("aria-label", ""))]
    assert label.startswith("Likeness and similarity to the prompts")


def test_snapshot_with_the_best_tradeoff_is_the_one_to_use():
    chosen = "data/embedding/snapshots/step-000060.safetensors"
    write_snapshots(chosen=chosen)
    shown = text()
    assert f"bytes: {chosen}." in shown
    assert "the snapshot of step 60, whose tradeoff of likeness and prompt following is the best of 3" in shown
    assert "step of the embedding 60" in shown
    assert f'load_textual_inversion("{chosen}"' in page().find(".//pre[@id='example']").text
    (link,) = [item.get("href") for item in page().iter("a") if item.get("download")]
    assert base64.b64decode(link.partition(",")[2]) == Path(chosen).read_bytes()
    write("metrics", closer_to_real=True, chosen="data/embedding/learned_embeds.safetensors")
    assert "the best of 3 embeddings, and its validation loss the lowest" in text()
    write("metrics", closer_to_real=True, chosen="/etc/other.safetensors")
    assert "bytes: data/embedding/learned_embeds.safetensors." in text(), "only a file that was rendered"


def test_other_subjects_and_models_have_columns():
    path = DATA / "renders" / "index.json"
    index = json.loads(path.read_text())
    row = next(row for row in index["cells"] if row["subject"] == "word")
    index["cells"].append(row | {"subject": "mine", "prompt": "own", "text": "a plain cat", "steps": 9})
    path.write_text(json.dumps(index | {"subjects": index["subjects"] | {"mine": "Another model"}}))
    shown = text()
    assert "a plain cat Another model" in shown
    assert "measure dragon <critter> Another model real images" in shown
    captions = [button.get("data-caption") for button in page().iter("button")]
    assert "a plain cat · seed 0, 9 steps, guidance 2.0" in captions


@pytest.mark.parametrize(
    ("learned", "closer", "lead", "verdict"),
    [
        (True, True, "A new word for an image model, learned from", "Yes."),
        (True, False, "something was learned, but its renders are no closer", "Not clearly."),
        (False, True, "the loss does not show that it was learned", "Not clearly."),
        (False, False, "It was not learned: its renders are no closer", "No."),
    ],
)
def test_introduction_and_verdict_follow_the_loss_and_the_renders(learned: bool, closer: bool, lead: str, verdict: str):
    write(**TRAIN | {"learned": learned})
    write("metrics", closer_to_real=closer)
    shown = text()
    assert lead in shown
    assert f"Was it learned? {verdict} With the learned embedding" in shown
    assert ("A new word" in shown) == (learned and closer)
    assert ("not measurably closer" in shown) != closer
    assert ("Try concept.initialization" in shown) != (learned and closer)


@pytest.mark.parametrize(
    ("learned", "fall", "error", "verdict", "tile"),
    [
        (True, 11.74, 0.83, "11.7 % (± 0.8) below {}. It", "−11.7 % ± 0.8"),
        (False, 0.01, 0.02, "0.01 % (± 0.02) below {}, which may be chance. It", "−0.01 % ± 0.02"),
        (False, -3.04, 0.83, "3.0 % (± 0.8) above {}. It", "+3.0 % ± 0.8"),
    ],
)
def test_loss_is_shown_with_its_error(learned: bool, fall: float, error: float, verdict: str, tile: str):
    write(**TRAIN | {"learned": learned, "test_fall_percent": fall, "test_fall_stderr_percent": error})
    shown = text()
    assert "is " + verdict.format("that with the initializer token “dragon”") in shown
    assert f"Loss on held-out images {tile}" in shown


def test_page_loads_nothing_and_is_the_same_twice():
    elements = list(page().iter())
    first = Path("report/index.html").read_bytes()
    for element in elements:
        for name, value in element.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#", "../data/curated.html"))
    rest = re.sub(rb"data:[\w/-]+;base64,[A-Za-z0-9+/=]+", b"", first)
    assert not re.search(rb"https?:|//[a-z]|@import|url\((?!#)", rest)
    page()
    assert Path("report/index.html").read_bytes() == first


def test_policy_allows_no_script_but_the_one_of_the_page():
    page()
    (script,) = re.findall(r"<script>(.*?)</script>", Path("report/index.html").read_text(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(element.get("content") for element in page().iter() if element.get("http-equiv"))
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_hostile_text_is_escaped():
    prompts = {"x": HOSTILE + "{}"}
    write_renders(DATA / "renders", lambda subject, seed: NAVY, prompts)
    configure("<b>" + HOSTILE, HOSTILE, prompts, title=HOSTILE)
    assert not [element for element in page().iter() if element.get("onerror") or element.get("src") == "x"]
    assert len(list(page().iter("script"))) == 1
    assert text().count(HOSTILE) > 5
    ast.parse(page().find(".//pre[@id='example']").text)


def test_example_runs_as_it_stands_on_the_page():
    """The weights are half floats, as those of the starter: without a dtype, the pipeline would mix types."""
    tiny_model(Path("starter/model"))
    for file in Path("starter/model").rglob("*.safetensors"):
        save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    write_embedding(DATA / "embedding" / "learned_embeds.safetensors", np.ones((2, 32)))
    exec(page().find(".//pre[@id='example']").text, {})
    assert Image.open("critter.png").size == (32, 32)


def test_optional_parts():
    assert page().find(".//h1").text == "<critter>"
    assert "Likeness 82" in text()
    configure(title="My dragon")
    write_estimates({name: value for name, value in ESTIMATES.items() if "gap" not in name and "gallery" not in name})
    (DATA / "embedding" / "progress").mkdir()
    for step in (100, 0, 20):
        NAVY.save(DATA / "embedding" / "progress" / f"step-{step:06d}.png")
    assert page().find(".//h1").text == "My dragon"
    shown = text()
    assert "Likeness 82" not in shown
    assert "recognized" not in shown
    assert "step 0, loss 1.000 step 20, loss 0.900 step 100" in shown


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
        ("filter", ["manifest.csv", "raw/Critter/a.png"]),
        ("curate", ["curated/index.json"]),
        ("train", ["train.json", "loss.csv", "validation.csv", "embedding/learned_embeds.safetensors"]),
        ("-f render", ["renders/zoo/word-0.png"]),
        ("render", ["renders/index.json"]),
        ("evaluate", ["metrics.json", "estimates.csv"]),
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


def test_estimates_without_the_likeness_are_refused():
    write_estimates({"image_similarity_word": 0.5})
    with pytest.raises(SystemExit, match=r"estimates.csv cannot be read .no row image_similarity_ini.*repro evaluate"):
        report.main()


@needs_browser
def test_page_fits_a_phone_and_a_desktop(tmp_path: Path):
    configure(title="<" + "w" * 90 + ">")
    report.main()
    with browser(tmp_path / "profile") as window:
        for width, curves in ((390, "narrow"), (1280, "wide")):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            window.get(Path("report/index.html").resolve().as_uri())
            fits = f"return document.documentElement.scrollWidth <= {width}"
            assert window.execute_script(fits)
            window.execute_script("for (const details of document.querySelectorAll('details')) details.open = true;")
            assert window.execute_script(fits)
            decoded = "return Promise.all([...document.querySelectorAll('main img, header img')].map(i => i.decode()))"
            assert len(window.execute_script(decoded)) == IMAGES + 2  # with those of the slider
            visible = "return [...document.querySelectorAll('.curves svg')].find(svg => svg.clientWidth).classList[0]"
            assert window.execute_script(visible) == curves
        requests = (
            "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.startsWith('data:'))"
        )
        assert window.execute_script(requests) == []


@needs_browser
def test_images_are_enlarged_compared_and_filtered(tmp_path: Path):
    colors = {("word", 0): "red", ("word", 1): "green", ("initializer", 0): "blue", ("initializer", 1): "gray"}
    write_renders(DATA / "renders", lambda subject, seed: Image.new("RGB", (16, 16), colors[subject, seed]))
    report.main()
    with browser(tmp_path / "profile") as window:
        window.get(Path("report/index.html").resolve().as_uri())

        def source(subject: str, seed: int) -> str:
            return window.execute_script(
                f"return document.querySelector('[data-subject={subject}][data-seed=\"{seed}\"] img').src"
            )

        Select(window.find_element(By.ID, "pair")).select_by_index(1)
        compared = [window.execute_script(f"return one('compare-{kind}').src") for kind in ("word", "initializer")]
        assert compared == [source("word", 1), source("initializer", 1)]
        window.find_element(By.ID, "share").send_keys(Keys.END)
        assert window.execute_script("return one('compare').style.getPropertyValue('--at')") == "100%"
        ActionChains(window).click(window.find_element(By.ID, "compare")).perform()
        assert float(window.find_element(By.ID, "share").get_attribute("value")) == pytest.approx(50, abs=1)

        for name, value, count in (("seed", "1", 4), ("subject", "word", 2), ("prompt", "zoo", 1)):
            Select(window.find_element(By.NAME, name)).select_by_value(value)
            assert window.find_element(By.ID, "count").text.split() == [str(count), "image" + "s" * (count > 1)]

        (button,) = [b for b in window.find_elements(By.CSS_SELECTOR, ".renders .zoom") if b.is_displayed()]
        button.send_keys(Keys.ENTER)
        viewer, caption = window.find_element(By.ID, "viewer"), window.find_element(By.ID, "viewer-text")
        assert caption.text == "a <critter> in the zoo · seed 1, 2 steps, guidance 2.0"
        assert window.execute_script("return one('viewer-image').src") == source("word", 1)
        viewer.send_keys(Keys.ARROW_RIGHT)
        assert caption.text == "training image train0.png"
        viewer.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert caption.text == "a <critter> in the zoo · seed 0, 2 steps, guidance 2.0"
        viewer.send_keys(Keys.ESCAPE)
        assert not viewer.is_displayed()
        window.find_element(By.CSS_SELECTOR, "[data-from=example]").click()
        assert window.get_log("browser") == []
