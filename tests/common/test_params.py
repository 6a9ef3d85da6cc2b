"""params.yaml is parsed as DVC parses it, and the first error is one helpful sentence."""

from pathlib import Path

import pytest

from stages import UserError
from stages.common import params
from tests.project import SMALL, write_params


def load(tmp_path: Path, **sections: dict):
    """Load SMALL with the given sections changed."""
    changed = {
        name: SMALL.get(name, {}) | value if isinstance(value, dict) else value for name, value in sections.items()
    }
    write_params(tmp_path, SMALL | changed)
    return params.load(*params.SECTIONS, path=tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001"])
def test_exponents_are_numbers(tmp_path: Path, text: str):
    load(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", f"learning_rate: {text}"))
    assert params.load("train", path=path).train.learning_rate == 1e-5


def test_no_is_a_string(tmp_path: Path):
    path = tmp_path / "params.yaml"
    load(tmp_path)
    path.write_text(path.read_text().replace("  steps: 3", "  mixed_precision: no\n  steps: 3"))
    assert params.load("train", path=path).train.mixed_precision == "no"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"trian": {}}, ("unknown section `trian`", "did you mean `train`", "dataset, filter")),
        ({"train": {"stesp": 5}}, ("unknown key `train.stesp`", "did you mean `steps`", "batch_size")),
        ({"train": {"steps": 0}}, ("`train.steps` is 0", "greater than 0")),
        ({"train": {"steps": 5, "lr_warmup_steps": 5}}, ("lr_warmup_steps (5) must be less than steps (5)",)),
        ({"train": {"mixed_precision": "fp8"}}, ("`train.mixed_precision` is 'fp8'", "'no', 'tf32', 'fp16' or 'bf16'")),
        ({"dataset": {"source": "kaggle", "kaggle": {"datset": "a/b"}}}, ("dataset.kaggle.dataset",)),
        ({"dataset": {"source": "kagle"}}, ("`dataset.source` is 'kagle'", "'kaggle'")),
        ({"filter": {"min_sharpness": "much"}}, ("`filter.min_sharpness` is 'much'", "number")),
        ({"dataset": {"source": "kaggle"}}, ("source kaggle needs `kaggle: {dataset: owner/slug}`",)),
        ({"dataset": {"source": "folder", "path": None}}, ("source folder needs `path`",)),
        ({"train": {"steps": True}}, ("`train.steps` is True", "valid integer")),
        ({"render": {"seeds": [True]}}, ("`render.seeds.0` is True", "valid integer")),
        ({"train": {"learning_rate": float("inf")}}, ("`train.learning_rate` is inf", "finite number")),
        ({"train": {"learning_rate": float("nan")}}, ("`train.learning_rate` is nan", "finite number")),
        ({"train": {"seed": 2**64}}, ("`train.seed` is 18446744073709551616", "less than")),
        ({"train": {"validation_timesteps": 10**6}}, ("`train.validation_timesteps` is 1000000", "1000")),
        ({"concept": {"placeholder_token": "drag"}}, ("placeholder_token drag is part of initializer_token dragon",)),
        ({"concept": {"placeholder_token": "Dragon"}}, ("placeholder_token Dragon is part of",)),
        ({"concept": {"initializer_token": "dragon\n"}}, ("concept.initializer_token", "line break")),
        ({"concept": {"placeholder_token": "<\U0001f469\u200d\U0001f680>"}}, ("cannot be printed",)),
        ({"train": {"lr_step_rules": "1:x,."}}, ("`train.lr_step_rules` is '1:x,.'", "such as 1:500,0.1")),
        ({"train": {"progress_prompt": "a dragon"}}, ("progress_prompt, needs {}",)),
        ({"curate": {"count": 10**9}}, ("`curate.count` is 1000000000", "10000")),
        ({"train": []}, ("`train` is []", "dictionary")),
        ({"render": {"prompts": {"a" * 300: "a {}"}}}, ("at most 100 bytes",)),
        ({"concept": {"placeholder_token": "__metadata__"}}, ("concept.placeholder_token", "reserved")),
        ({"concept": {"placeholder_token": "two words"}}, ("concept.placeholder_token", "without spaces")),
        ({"render": {"prompts": {"plain": "a dragon"}}}, ("has no {}, which stands for the token",)),
        ({"render": {"prompts": {"plain": "a {} ${x}"}}}, ("a value in `render` contains `${`", "`dvc exp run -S`")),
        ({"render": {"prompts": {"../up": "a {}"}}}, ("becomes a folder",)),
        ({"render": {"seeds": [1, 1]}}, ("a seed is listed twice",)),
        ({"runtime": {"device": "tpu"}}, ("`runtime.device` is 'tpu'",)),
        ({"runtime": {"threads": 100_000}}, ("`runtime.threads` is 100000",)),
        ({"render": {"height": 1_000_000}}, ("`render.height` is 1000000", "4096")),
        ({"runtime": {"micro_batch": 0}}, ("`runtime.micro_batch` is 0",)),
        ({"curate": {"resolution": 100}}, ("`curate.resolution` is 100", "multiple of 8")),
    ],
)
def test_error_is_one_sentence(tmp_path: Path, sections: dict, words: tuple[str, ...]):
    with pytest.raises(UserError) as caught:
        load(tmp_path, **sections)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(("text", "words"), [("a: [", "is not valid YAML"), ("just text", "has no sections")])
def test_file_without_mapping_is_refused(tmp_path: Path, text: str, words: str):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        params.load(path=tmp_path / "params.yaml")


def test_missing_section_is_refused_as_by_dvc(tmp_path: Path):
    write_params(tmp_path, {name: value for name, value in SMALL.items() if name not in ("report", "runtime")})
    with pytest.raises(UserError, match=r"has no section `report`; write `report: {}` for its defaults"):
        params.load(path=tmp_path / "params.yaml")
    write_params(tmp_path, {name: value for name, value in SMALL.items() if name != "runtime"} | {"report": None})
    assert params.load("report", "runtime", path=tmp_path / "params.yaml").report.title is None


@pytest.mark.parametrize("token", ["<\U0001f409>", "<\u7adc>"])
def test_emoji_and_ideographs_are_allowed(tmp_path: Path, token: str):
    assert load(tmp_path, concept={"placeholder_token": token}).concept.placeholder_token == token


def test_missing_file_is_reported(tmp_path: Path):
    with pytest.raises(UserError, match="run from the root"):
        params.load(path=tmp_path / "params.yaml")
