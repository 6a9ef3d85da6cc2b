"""The jobs that the params describe."""

from pathlib import Path

import pytest

from stages.models.params import Model
from stages.rendering.jobs import RenderInputs
from stages.rendering.params import Render
from tests.rendering.conftest import CONCEPT, FAST


def test_jobs_are_prompts_by_subjects_by_seeds():
    inputs = RenderInputs(Model(), CONCEPT, Render(**FAST), Path())
    jobs = inputs.jobs()
    assert len({job.file for job in jobs}) == len(jobs) == 2 * 2 * 2
    assert (jobs[0].file, jobs[0].text) == ("plain/word-7.png", "a <critter>")
    assert (jobs[-1].file, jobs[-1].text) == ("both/initializer-0.png", "dragon and dragon at night")
    assert [row["file"] for row in inputs.index()["cells"]] == [job.file for job in jobs]


def test_more_subjects_are_plain_text_and_embeddings():
    files = {"early": "snapshots/early.safetensors", "Cat": "a Cat"}
    inputs = RenderInputs(Model(), CONCEPT, Render(**FAST, subjects=files, negative_prompt="<EARLY>"), Path("e"))
    assert inputs.tokens() == {"word": "<critter>", "initializer": "dragon", "early": "<early>", "Cat": "a Cat"}
    assert inputs.embeddings() == {"<critter>": Path("e"), "<early>": Path("snapshots/early.safetensors")}
    jobs = {job.file: job for job in inputs.jobs()}
    assert len(jobs) == 2 * 4 * 2
    assert jobs["both/Cat-0.png"].text == "a Cat and a Cat at night"
    assert set(inputs.embeddings_in(jobs["plain/word-0.png"])) == {"<critter>", "<early>"}
    assert set(inputs.embeddings_in(jobs["plain/Cat-0.png"])) == {"<early>"}, "it is in the negative prompt"


def test_lists_have_a_job_for_every_combination():
    inputs = RenderInputs(Model(), CONCEPT, Render(**FAST | {"steps": [9], "guidance_scale": [1, 7.5]}), Path())
    jobs = [job for job in inputs.jobs() if (job.prompt, job.subject, job.seed) == ("plain", "word", 7)]
    assert [job.file for job in jobs] == [f"plain/word-7-steps9-guidance{scale}.png" for scale in ("1", "7.5")]
    assert [job.setting[:2] for job in jobs] == [(9, 1.0), (9, 7.5)]
    assert jobs[1].row()["guidance_scale"] == 7.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": {"x": "no slot"}}, "has no {}"),
        ({"prompts": {"../x": "a {}"}}, "becomes a folder"),
        ({"subjects": {"../x": "cat"}}, "becomes a file name"),
        ({"subjects": {"word": "cat"}}, "stands for a token of `concept`"),
        ({"subjects": {"step-20": "cat"}, "snapshots": 1}, "'step-20' stands for a snapshot"),
        ({"seeds": [1, 1]}, "twice"),
        ({"steps": [20, 20]}, "twice"),
        ({"guidance_scale": []}, "at least 1 item"),
        ({"seeds": [2**32]}, "less than"),
        ({"height": 33}, "multiple of 8"),
    ],
)
def test_invalid_params_are_refused(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Render(**FAST | changed)
