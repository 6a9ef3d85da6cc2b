"""The attribute classifier: a picture => what it shows, by a small classifier trained on the world's drawings."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from starter.labels import GROUPS

FILE = Path(__file__).parent / "classifier" / "model.safetensors"


class AttributeClassifier(nn.Module):
    """B x 3 x 128 x 128 in -1..1 => B x (sum of the groups' sizes) logits."""

    def __init__(self, width: int = 24):
        super().__init__()
        w = width
        layers, before = [], 3
        for after, stride in ((w, 2), (w, 1), (2 * w, 2), (2 * w, 1), (3 * w, 2), (3 * w, 1), (4 * w, 2), (4 * w, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.SiLU()]
            before = after
        self.features = nn.Sequential(*layers)
        self.sizes = [len(v) for v in GROUPS.values()]
        self.head = nn.Linear(2 * before + 16 * 8, sum(self.sizes))
        self.place = nn.Conv2d(before, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.features(x)
        where = nn.functional.adaptive_avg_pool2d(self.place(f), 4).flatten(1)
        return self.head(torch.cat([f.mean((2, 3)), f.amax((2, 3)), where], 1))

    @torch.no_grad()
    def predict(self, x: torch.Tensor) -> list[dict[str, str]]:
        """B x 3 x 128 x 128 => one dict a picture: each group's most likely word."""
        parts = self(x).split(self.sizes, 1)
        best = torch.stack([part.argmax(1) for part in parts], 1).tolist()
        return [{group: GROUPS[group][i] for group, i in zip(GROUPS, row, strict=True)} for row in best]


def load(path: Path = FILE) -> AttributeClassifier:
    """=> the trained classifier, float32, on the CPU."""
    classifier = AttributeClassifier()
    classifier.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return classifier.eval()
