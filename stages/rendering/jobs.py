"""The images to render: one job per prompt, subject and seed."""

from dataclasses import dataclass
from pathlib import Path

from stages.models.params import Concept, Model
from stages.rendering.params import Render


@dataclass(frozen=True)
class Job:
    """One image: the name of its prompt, its subject, the prompt with the subject's token in it, and the seed."""

    prompt: str
    subject: str
    text: str
    seed: int

    @property
    def file(self) -> str:
        """Return the path in data/renders."""
        return f"{self.prompt}/{self.subject}-{self.seed}.png"


@dataclass(frozen=True)
class RenderInputs:
    """Everything that decides the renders: three sections of params.yaml and the file of the learned embedding."""

    model: Model
    concept: Concept
    render: Render
    embedding: Path

    def tokens(self) -> dict[str, str]:
        """Return the token of each subject."""
        return {"word": self.concept.placeholder_token, "initializer": self.concept.initializer_token}

    def jobs(self) -> list[Job]:
        """Return a job for every prompt, subject and seed, in that order."""
        return [
            Job(name, subject, prompt.replace("{}", token), seed)
            for name, prompt in self.render.prompts.items()
            for subject, token in self.tokens().items()
            for seed in self.render.seeds
        ]

    def index(self) -> dict:
        """Return the content of data/renders/index.json."""
        rows = [vars(job) | {"file": job.file} for job in self.jobs()]
        return {"subjects": self.tokens(), "prompts": self.render.prompts, "cells": rows}
