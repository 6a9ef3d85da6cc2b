"""What docs/embedding-files.md says of the programs that read an embedding file; each rule is a few lines here."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.inversion.embedding_file import dump, tensors
from stages.models.embedding import Tables
from stages.reporting.usage import UIS
from tests.closure import ROOT

TEXT = (ROOT / "docs" / "embedding-files.md").read_text(encoding="utf-8")
CLIPS = {"clip_l": 768, "clip_g": 1280}
# The tables of the models, by the family and whether the embedding has vectors for T5.
MODELS = {
    "1.x": {"clip": 768},
    "2.x": {"clip": 1024},
    "XL": CLIPS,
    "3 with T5": CLIPS | {"t5xxl": 4096},
    "3 without T5": CLIPS,
}
State = dict[str, torch.Tensor]


@pytest.fixture
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    """The tensors of a file with two vectors."""
    tables = Tables(MODELS[request.param])
    vectors = torch.randn(2, sum(tables.widths.values()), generator=torch.Generator().manual_seed(0))
    path = tmp_path / "data" / "embedding" / "learned_embeds.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(dump(tensors(tables, vectors, "<cat>"), {}))
    return load_file(path)


def parts(state: State) -> list[torch.Tensor]:
    """Return the vectors in each table, in the order of the tables."""
    return [state[name] for name in ("clip_l", "clip_g", "t5xxl") if name in state] or [*state.values()]


def of_automatic1111(state: State, width: int) -> list[torch.Tensor] | None:
    """Return what AUTOMATIC1111 and Forge use with a model whose encoders have this width together."""
    if {"clip_g", "clip_l"} <= state.keys():
        fits = state["clip_g"].shape[-1] + state["clip_l"].shape[-1] == width
        return [state["clip_l"], state["clip_g"]] if fits else None
    (vectors,) = state.values()  # more than one tensor is an error there
    return [vectors] if vectors.shape[-1] == width else None


def of_comfyui(state: State, name: str, width: int) -> torch.Tensor | None:
    """Return what ComfyUI uses for the encoder of a name and a width."""
    vectors = state.get(name, next(iter(state.values())))
    return vectors if vectors.shape[-1] == width else None


def of_invokeai(state: State) -> str | None:
    """Return the model that InvokeAI recognizes."""
    if "emb_params" in state:
        width = state["emb_params"].shape[-1]
    elif "clip_g" in state:
        width = state["clip_g"].shape[-1]
    else:
        width = next(iter(state.values())).shape[0]
    return {768: "1.x", 1024: "2.x", 1280: "XL"}.get(width)


def of_onetrainer(state: State, *names: str) -> list[torch.Tensor | None]:
    """Return what OneTrainer continues to train; where it finds None, it begins anew."""
    return [state.get(name) for name in names]


def of_kohya(state: State, *, is_xl: bool) -> list[torch.Tensor]:
    """Return what kohya's scripts continue to train."""
    return [state["clip_l"], state["clip_g"]] if is_xl else [next(iter(state.values()))]


def same(read: list[torch.Tensor | None] | None, expected: list[torch.Tensor]) -> bool:
    return read is not None and len(read) == len(expected) and all(map(torch.equal, read, expected))


@pytest.mark.parametrize(("state", "width"), [("1.x", 768), ("2.x", 1024), ("XL", 2048)], indirect=["state"])
def test_automatic1111_and_forge(state: State, width: int):
    assert same(of_automatic1111(state, width), parts(state))
    others = {768, 1024, 2048} - {width}
    assert not any(of_automatic1111(state, other) for other in others), "a file is used with its own model only"


@pytest.mark.parametrize("state", ["3 with T5", "3 without T5"], indirect=True)
def test_forge_has_no_embeddings_for_stable_diffusion_3(state: State):
    """Each encoder expects its own width, but a file with both tensors has the sum."""
    assert of_automatic1111(state, 768) is None
    assert of_automatic1111(state, 1280) is None
    assert of_automatic1111(state, 2048) is not None, "it is taken for a file of Stable Diffusion XL"


@pytest.mark.parametrize(
    ("state", "encoders"),
    [
        ("1.x", {"clip_l": 768}),
        ("2.x", {"clip_h": 1024}),
        ("XL", CLIPS),
        ("3 with T5", CLIPS | {"t5xxl": 4096}),
        ("3 without T5", CLIPS),
    ],
    indirect=["state"],
)
def test_comfyui(state: State, encoders: dict[str, int]):
    assert same([of_comfyui(state, *encoder) for encoder in encoders.items()], parts(state))
    if "t5xxl" not in encoders:
        assert of_comfyui(state, "t5xxl", 4096) is None, "T5 gets no vectors of another width"


@pytest.mark.parametrize(("state", "model"), [("XL", "XL"), ("1.x", None), ("2.x", None)], indirect=["state"])
def test_invokeai_recognizes_stable_diffusion_xl(state: State, model: str | None):
    assert of_invokeai(state) == model


@pytest.mark.parametrize(("state", "model"), [("1.x", "1.x"), ("2.x", "2.x")], indirect=["state"])
def test_program_that_renames_the_tensor_for_invokeai(
    state: State, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "emb_params" in block)
    exec(program, {})
    renamed = load_file("charizard.safetensors")
    assert of_invokeai(renamed) == model
    assert same([*renamed.values()], parts(state))


@pytest.mark.parametrize(
    ("state", "names"),
    [("XL", ("clip_l", "clip_g")), ("3 with T5", ("clip_l", "clip_g", "t5"))],
    indirect=["state"],
)
def test_onetrainer(state: State, names: tuple[str, ...]):
    assert same(of_onetrainer(state, *names), parts(state))


@pytest.mark.parametrize("state", ["1.x"], indirect=True)
def test_onetrainer_begins_anew_with_stable_diffusion_1(state: State):
    assert of_onetrainer(state, "emp_params") == [None]


@pytest.mark.parametrize("state", ["1.x", "2.x", "XL"], indirect=True)
def test_kohya(state: State):
    assert same(of_kohya(state, is_xl="clip_g" in state), parts(state))


@pytest.mark.parametrize(("family", "column"), [("sd", 1), ("sdxl", 2), ("sd3", 3)])
def test_report_names_the_web_uis_that_the_table_names(family: str, column: int):
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| \[.*", TEXT, re.MULTILINE)]
    read = {re.match(r"\[([\w ]+)", row[0])[1] for row in rows if row[column] not in ("no", "by our helper")}
    uis = {name for names, *_ in UIS[family] for name in names.split(", ")}
    assert uis == read & {"AUTOMATIC1111", "Forge", "ComfyUI", "InvokeAI"}


@pytest.mark.parametrize("check", [of_automatic1111, of_comfyui, of_invokeai, of_onetrainer, of_kohya])
def test_every_rule_has_a_link_to_the_source(check: Callable):
    name = {"of_automatic1111": "AUTOMATIC1111/", "of_comfyui": "ComfyUI/", "of_kohya": "kohya-ss/"}.get(
        check.__name__, check.__name__.removeprefix("of_")
    )
    links = re.findall(r"https://github\.com/[^)]+/blob/[0-9a-f]{40}/[^)]+", TEXT)
    assert any(name.lower() in link.lower() for link in links)
