"""CLIP and DINO folders that would give figures without a meaning, or run code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from stages.images.quality.clip import clip_embeddings
from stages.scoring.encoders import Clip, Dino
from tests.hostile.bounds import accepted
from tests.hostile.test_models import BROKEN, update, vocabulary, write
from tests.tiny import tiny_clip

CODE = "from pathlib import Path\nPath({!r}).touch()\nclass Trap: pass\n"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tiny_clip(tmp_path / "clip")


def scale(factor: float, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({k: v * factor for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})


CASES: dict[str, Callable[[Path], None]] = {
    "nan": lambda folder: scale(float("nan"), folder),
    "zeros": lambda folder: scale(0.0, folder),
    "no vocabulary": lambda folder: vocabulary(lambda vocab: {}, folder),
    "tokens beyond the table": lambda folder: vocabulary(lambda vocab: vocab | {"zzz</w>": 10**6}, folder),
    "huge images": lambda folder: update("preprocessor_config.json", folder, size={"shortest_edge": 10**6}),
    "no size": lambda folder: update("preprocessor_config.json", folder, size=None, crop_size="x"),
    "list as processor": lambda folder: write("preprocessor_config.json", "[1]", folder),
    **{f"{name} config": lambda folder, name=name: BROKEN[name]("config.json", folder) for name in BROKEN},
}


@pytest.mark.parametrize("name", CASES)
def test_clip_is_refused(name: str, clip: Path):
    CASES[name](clip)
    assert not accepted(lambda: Clip(str(clip), "cpu"), mib=500)
    if name in ("nan", "zeros"):
        assert not accepted(lambda: clip_embeddings(str(clip), []), mib=500)


def test_clip_as_dino_is_refused(clip: Path):
    assert not accepted(lambda: Dino(str(clip), "cpu"))


@pytest.mark.parametrize("kind", [Clip, Dino])
@pytest.mark.parametrize("model_type", ["trap", "clip", "dinov2"])
def test_code_of_a_folder_is_never_run(
    kind: type, model_type: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # the libraries ask in a terminal
    (clip / "code.py").write_text(CODE.format(str(tmp_path / "canary")))
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoTokenizer"), "code.Trap")
    for file in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        update(file, clip, auto_map=auto, **({"model_type": model_type} if file == "config.json" else {}))
    update("preprocessor_config.json", clip, image_processor_type="Trap")
    assert not accepted(lambda: kind(str(clip), "cpu"), mib=500)
    shutil.rmtree(clip / "__pycache__", ignore_errors=True)
    assert not (tmp_path / "canary").exists()
    assert json.loads((clip / "config.json").read_text())["auto_map"] == auto
