"""How the learned embedding is used elsewhere."""

import pytest

from stages.reporting.usage import compatibility, file_stem, web_uis


@pytest.mark.parametrize(
    ("placeholder", "stem"),
    [("<emberwing>", "emberwing"), ("<my cat/2>", "my-cat-2"), ("<_é_>", "é"), ("***", "embedding")],
)
def test_file_name_of_a_placeholder(placeholder: str, stem: str):
    assert file_stem(placeholder) == stem


def test_every_ui_names_the_file_in_its_own_way():
    prompts = [ui.prompt for ui in web_uis("a {} and {}", "<cat>")]
    assert prompts == ["a cat and cat", "a embedding:cat and embedding:cat", "a <cat> and <cat>"]


def test_width_decides_which_models_fit():
    assert "Stable Diffusion 1.x" in compatibility(768, "any")
    assert "fits starter/model only" in compatibility(256, "starter/model")
