"""The `render` section => the pictures to draw: a cell is one prompt, one subject and one seed."""

from dataclasses import dataclass

from stages.models.params import Concept
from stages.rendering.params import Render

SUBJECTS = ("word", "initializer")


@dataclass(frozen=True)
class Job:
    """One picture: the key of its prompt, which subject, the text with that subject in it, and the seed."""

    prompt: str
    subject: str
    text: str
    seed: int

    @property
    def file(self) -> str:
        """Where it lies in data/renders."""
        return f"{self.prompt}/{self.subject}-{self.seed}.png"


def subjects(concept: Concept) -> dict[str, str]:
    """=> subject => what is written for it in a prompt."""
    return dict(zip(SUBJECTS, (concept.placeholder_token, concept.initializer_token), strict=True))


def list_jobs(render: Render, concept: Concept) -> list[Job]:
    """Prompts x subjects x seeds, in that order."""
    return [
        Job(key, subject, prompt.replace("{}", written), seed)
        for key, prompt in render.prompts.items()
        for subject, written in subjects(concept).items()
        for seed in render.seeds
    ]


def index(render: Render, concept: Concept) -> dict:
    """=> index.json: what is written for each subject, the prompts, and a row a picture."""
    rows = [vars(cell) | {"file": cell.file} for cell in list_jobs(render, concept)]
    return {"subjects": subjects(concept), "prompts": render.prompts, "cells": rows}
