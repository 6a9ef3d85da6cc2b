"""What the other stages made => one self-contained page: no script, no request, every picture in it."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from stages.reporting import charts, sentences
from stages.reporting.inputs import Inputs, choice, picture, read_csv, read_json, word
from stages.reporting.params import Report

SUBJECTS = ("initializer", "word")


def page(report: Report, sources: Inputs, params: dict[str, dict]) -> str:
    """`report`, files, params by section => HTML. Raises UserError for a file that is missing or broken."""
    concept = params["concept"]
    known, placeholder = concept["initializer_token"], concept["placeholder_token"]
    train, figures, learnt = read_json(sources.train), read_json(sources.metrics), word(sources.embedding)
    chosen = read_json(sources.curated / "index.json")
    pictures = {part: _curated(sources.curated, chosen[part]) for part in ("train", "holdout")}
    names = {part: {row["source"] for row in chosen[part]} for part in ("train", "holdout")}
    manifest = read_csv(sources.manifest)
    rows = _rows(sources.renders, read_json(sources.renders / "index.json"), figures)
    context = {
        "title": report.title or placeholder,
        "known": known,
        "placeholder": placeholder,
        "lead": sentences.lead(len(pictures["train"]), learnt["vectors"], learnt["width"], train["learnt"]),
        "verdict": sentences.verdict(train, known),
        "tiles": sentences.tiles(figures, train, learnt, known),
        "scale": sentences.scale(figures, known, placeholder),
        "pictures": pictures,
        "class": chosen["class"],
        "seen": len(manifest),
        "choice": choice(manifest, names["train"], names["holdout"]),
        "objective": _objective(read_csv(sources.objective)),
        "loss": _loss(read_csv(sources.loss)),
        "progress": _progress(sources.embedding.parent / "progress"),
        "rows": rows,
        "first": rows[0]["groups"],
        "figures": _table(figures),
        "params": {section: _flat(values) for section, values in params.items()},
        "provenance": _provenance(read_json(sources.receipt), learnt),
        "steps": params["render"]["steps"],
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.render(context) + "\n"


def _curated(folder: Path, rows: list[dict]) -> list[dict]:
    return [{"uri": picture(folder / row["file"]), "name": row["source"].rpartition("/")[2]} for row in rows]


def _rows(folder: Path, index: dict, figures: dict) -> list[dict]:
    """The index of the renders => for each prompt its parts around the word, and both subjects' pictures."""
    rows = []
    for key in dict.fromkeys(cell["prompt"] for cell in index["cells"]):
        groups = []
        for subject in SUBJECTS:
            cells = [cell for cell in index["cells"] if (cell["prompt"], cell["subject"]) == (key, subject)]
            groups.append(
                {
                    "subject": subject,
                    "written": index["subjects"][subject],
                    "similarity": figures.get(f"image_similarity_{subject}.{key}"),
                    "cells": [cell | {"uri": picture(folder / cell["file"])} for cell in cells],
                }
            )
        rows.append({"key": key, "parts": index["prompts"][key].split("{}"), "groups": groups})
    return rows


def _objective(rows: list[dict[str, str]]) -> dict:
    return charts.objective(
        [int(row["step"]) for row in rows],
        [float(row["relative"]) for row in rows],
        [float(row["stderr"]) for row in rows],
    )


def _loss(rows: list[dict[str, str]]) -> dict:
    return charts.loss([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows])


def _progress(folder: Path) -> list[dict]:
    """Pictures drawn while the word was learnt (step-000100.png), if there are any."""
    return [
        {"step": int(file.stem.rpartition("-")[2]), "uri": picture(file)} for file in sorted(folder.glob("step-*.png"))
    ]


def _table(figures: dict[str, float]) -> list[tuple[str, str, str]]:
    """Flat figures => name, value, standard error; those of single prompts stand beside their pictures."""
    plain = {key: value for key, value in figures.items() if "." not in key and not key.endswith("_stderr")}
    return [(key, f"{plain[key]:.4f}", f"{figures[f'{key}_stderr']:.4f}") for key in sorted(plain)]


def _flat(values: dict, prefix: str = "") -> list[tuple[str, str]]:
    """A section of params => dotted names and values as they are written."""
    flat = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append(
                (
                    prefix + key,
                    "null" if value is None else str(value).lower() if value in (True, False) else str(value),
                )
            )
    return flat


def _provenance(receipt: dict, learnt: dict) -> list[tuple[str, str]]:
    """The receipt of the download and the header of the word => name, value."""
    origin = learnt["origin"]
    source = " ".join(str(receipt[key]) for key in ("source", "name", "version") if receipt.get(key) is not None)
    facts = [("pictures from", source)]
    facts += [(key, str(receipt[key])) for key in ("licence", "content_sha256") if receipt.get(key)]
    facts += [("the word’s SHA-256", learnt["sha256"])]
    return facts + [(key.replace("_", " "), value) for key, value in sorted(origin.items())]
