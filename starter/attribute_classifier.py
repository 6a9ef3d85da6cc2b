"""A small convolutional classifier of the attributes of an image, trained on drawings of the world.

Legend: B batch, K classes of all groups together.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from starter.labels import GROUPS

FILE = Path(__file__).parent / "classifier" / "model.safetensors"


class AttributeClassifier(nn.Module):
    """Convert images (B x 3 x 128 x 128, in -1..1) to logits (B x K)."""

    def __init__(self, width: int = 24):
        super().__init__()
        layers, before = [], 3
        for factor in (1, 2, 3, 4):
            after = factor * width
            for stride in (2, 1):
                layers += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.SiLU()]
                before = after
        self.features = nn.Sequential(*layers)
        self.sizes = [len(values) for values in GROUPS.values()]
        self.head = nn.Linear(2 * before + 16 * 8, sum(self.sizes))
        self.place = nn.Conv2d(before, 8, 1)  # keeps where features are; its name is a key of the weight file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        grid = nn.functional.adaptive_avg_pool2d(self.place(features), 4).flatten(1)
        return self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3)), grid], 1))

    @torch.no_grad()
    def predict(self, x: torch.Tensor) -> list[dict[str, str]]:
        """Return the most likely value of each group, one dict per image."""
        best = torch.stack([logits.argmax(1) for logits in self(x).split(self.sizes, 1)], 1).tolist()
        return [{group: GROUPS[group][i] for group, i in zip(GROUPS, row, strict=True)} for row in best]


def attribute_loss(logits: torch.Tensor, labels: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return the mean cross entropy over groups of `sizes` classes; `labels` has one column per group."""
    groups = logits.float().split(sizes, 1)
    return sum(nn.functional.cross_entropy(group, labels[:, i]) for i, group in enumerate(groups)) / len(sizes)


def load(path: Path = FILE) -> AttributeClassifier:
    """Load the trained classifier in float32, on the CPU."""
    classifier = AttributeClassifier()
    classifier.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return classifier.eval()
