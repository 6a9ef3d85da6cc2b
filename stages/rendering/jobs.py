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
    """Everything that decides the renders: three sections of params.yaml and the file of the learned embedding.

    A subject of `render.subjects` is plain text, or an embedding that is called <name> in the prompts.
    """

    model: Model
    concept: Concept
    render: Render
    embedding: Path

    def tokens(self) -> dict[str, str]:
        """Return the token or plain text that stands for each subject in a prompt."""
        tokens = {"word": self.concept.placeholder_token, "initializer": self.concept.initializer_token}
        return tokens | {name: f"<{name}>" if _is_file(text) else text for name, text in self.render.subjects.items()}

    def embeddings(self) -> dict[str, Path]:
        """Return the embedding file of every token that the base model does not have."""
        files = {f"<{name}>": Path(text) for name, text in self.render.subjects.items() if _is_file(text)}
        return {self.concept.placeholder_token: self.embedding} | files

    def embeddings_in(self, job: Job) -> dict[str, Path]:
        """Return the embeddings that decide a job: those whose token is in its prompt or in the negative prompt.

        That can be the prompt of an initializer job, too. The tokenizers of CLIP ignore case.
        """
        texts = f"{job.text} {self.render.negative_prompt}".lower()
        return {token: file for token, file in self.embeddings().items() if token.lower() in texts}

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


def _is_file(subject: str) -> bool:
    return subject.endswith(".safetensors")
