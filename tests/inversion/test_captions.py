"""What is said of the pictures."""

from pathlib import Path

import pytest

from stages import UserError
from stages.inversion.captions import OBJECT, STYLE, sentences


def test_the_templates_are_the_papers_and_the_scripts():
    """Counts and some lines of the templates of Gal et al.; the script has the same 27 and 19."""
    assert (len(OBJECT), len(STYLE)) == (27, 19)
    assert len(set(OBJECT)) == 27
    assert OBJECT[0] == "a photo of a {}"
    assert OBJECT[-1] == "a photo of a small {}"
    assert STYLE[2] == "a cropped painting in the style of {}"
    assert all(template.count("{}") == 1 for template in OBJECT + STYLE)


def test_every_picture_may_have_every_template():
    texts, choices = sentences("object", "<new>", None, [None, None])
    assert texts[0] == "a photo of a <new>"
    assert choices == [list(range(27))] * 2


def test_own_templates_replace_them_and_a_text_beside_a_picture_replaces_those():
    texts, choices = sentences("style", "<new>", ["the {}", "one {}"], [None, "<new> at sea\n\n  the {}  \n", None])
    assert texts == ["the <new>", "one <new>", "<new> at sea"]
    assert choices == [[0, 1], [2, 0], [0, 1]]


@pytest.mark.parametrize(
    ("own", "beside", "words"),
    [
        (["a dragon"], None, "train.captions: 'a dragon' has no place for the word"),
        (None, "a dragon", "the caption beside training picture 0: 'a dragon' has no place"),
        (None, " \n", "the caption beside training picture 0 is empty"),
    ],
)
def test_a_text_without_a_place_for_the_word_is_refused(own: list[str] | None, beside: str | None, words: str):
    with pytest.raises(UserError, match=words):
        sentences("object", "<new>", own, [beside])


def test_texts_beside_pictures_are_read(curated: Path, tmp_path: Path):
    import shutil

    from stages.inversion.dataset import examples

    folder = shutil.copytree(curated, tmp_path / "curated")
    (folder / "train" / "01.txt").write_text("{} in the snow\n", encoding="utf-8")
    assert examples(folder).captions == [None, "{} in the snow\n", None]
    (folder / "index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index\.json cannot be read"):
        examples(folder)
