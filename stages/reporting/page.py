"""Render one self-contained page from the outs of all stages: no script, no request, every image embedded."""

import json
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from stages.common.read_outs import read_csv, read_json
from stages.reporting.charts import scale_positions, training_curves
from stages.reporting.inputs import (
    Inputs,
    Metrics,
    NamedIndex,
    NamedRenders,
    TrainMetrics,
    count_images,
    data_uri,
    describe_embedding,
    provenance_facts,
    read_curve,
)
from stages.reporting.params import Report


def render_page(report: Report, inputs: Inputs, params: dict[str, dict]) -> str:
    """Return the page as HTML; `params` are shown by section. Raises UserError for an input that cannot be read."""
    metrics = read_json(inputs.metrics, "evaluate", Metrics)
    curated = read_json(inputs.curated / "index.json", "curate", NamedIndex)
    manifest = read_csv(inputs.manifest, "filter", dict.fromkeys(("file", "verdict", "reason"), str))
    embedding = describe_embedding(inputs.embedding)
    validation = read_curve(inputs.validation, "step", "relative", "stderr")
    similarity = {kind: metrics[f"image_similarity_{kind}"] for kind in ("initializer", "word", "real")}
    context = {
        "title": report.title or params["concept"]["placeholder_token"],
        "concept": params["concept"],
        "render": params["render"],
        "train": read_json(inputs.train, "train", TrainMetrics),
        "metrics": metrics,
        "embedding": embedding,
        "similarity": similarity,
        "positions": scale_positions(similarity),
        "curated": curated,
        "manifest": manifest,
        "counts": count_images(manifest, *({row["source"] for row in curated[part]} for part in ("train", "holdout"))),
        "curves": training_curves(validation, read_curve(inputs.loss, "step", "loss")),
        "best": validation.loc[validation["relative"].idxmin()],
        "progress": sorted((inputs.embedding.parent / "progress").glob("step-*.png")),
        "renders": read_json(inputs.renders / "index.json", "render", NamedRenders),
        "params": _flatten(params),
        "provenance": provenance_facts(read_json(inputs.raw, "download"), embedding),
        "inputs": inputs,
        "uri": data_uri,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.render(context) + "\n"


def _flatten(params: dict[str, dict]) -> dict[str, str]:
    """Return nested params as dotted names, with values as YAML writes them."""
    flat = pd.json_normalize(params).to_dict("records")[0]
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
