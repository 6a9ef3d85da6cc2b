"""Captions: the templates of the paper, own templates, and texts beside images."""

import shutil
from pathlib import Path

import pytest

from stages import UserError
from stages.inversion.captions import OBJECT, STYLE, build_captions
from stages.inversion.dataset import curated_images


def test_templates_are_those_of_the_paper():
    """Counts and some lines of the templates of Gal et al.; diffusers' script has the same 27 and 19."""
    assert (len(OBJECT), len(set(OBJECT)), len(STYLE)) == (27, 27, 19)
    assert OBJECT[0] == "a photo of a {}"
    assert OBJECT[-1] == "a photo of a small {}"
    assert STYLE[2] == "a cropped painting in the style of {}"
    assert all(template.count("{}") == 1 for template in OBJECT + STYLE)


def test_every_image_may_have_every_template():
    captions, choices = build_captions("object", "<new>", None, [None, None])
    assert captions[0] == "a photo of a <new>"
    assert choices == [list(range(27))] * 2


def test_own_templates_and_texts_replace_the_templates():
    captions, choices = build_captions(
        "style", "<new>", ["the {}", "one {}"], [None, "<new> at sea\n\n  the {}  \n", None]
    )
    assert captions == ["the <new>", "one <new>", "<new> at sea"]
    assert choices == [[0, 1], [2, 0], [0, 1]]


@pytest.mark.parametrize(
    ("templates", "text", "message"),
    [
        (["a dragon"], None, "train.captions: 'a dragon' does not contain the placeholder"),
        (None, "a dragon", "the caption beside training image 0: 'a dragon' does not contain"),
        (None, " \n", "the caption beside training image 0 is empty"),
    ],
)
def test_caption_without_placeholder_is_refused(templates: list[str] | None, text: str | None, message: str):
    with pytest.raises(UserError, match=message):
        build_captions("object", "<new>", templates, [text])


def test_texts_beside_images_are_read(curated: Path, tmp_path: Path):
    folder = shutil.copytree(curated, tmp_path / "curated")
    (folder / "train" / "01.txt").write_text("{} in the snow\n", encoding="utf-8")
    assert [image.text for image in curated_images(folder).train] == [None, "{} in the snow\n", None]


@pytest.mark.parametrize("content", ["[]", "{", '{"train": [{}], "holdout": []}'])
def test_broken_index_names_the_stage_to_rerun(tmp_path: Path, content: str):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json .*; run `dvc repro .*curate`"):
        curated_images(tmp_path)
