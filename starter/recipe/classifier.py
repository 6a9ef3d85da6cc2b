"""Train the attribute classifier that the benchmarks use."""

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from starter.attribute_classifier import AttributeClassifier, attribute_loss
from starter.recipe.dataset import ImageDataset
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, step_generator


def main(arguments: list[str] | None = None) -> None:
    """Train on the drawn images; write classifier/model.safetensors (float16) to the work folder."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    model = AttributeClassifier().to(options.device).to(memory_format=torch.channels_last)
    dataset = ImageDataset(options.work, options.device)
    batch = options.batch or 256
    trainer = Trainer("classifier", model, options, lr=2e-3, ema_decay=0.998)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        rng = step_generator(2, step, options)
        index = dataset.sample_indices(batch, rng)
        x, labels = dataset.load(index, rng), dataset.labels[index]
        if step % 3 == 1:  # generated images are a little soft
            x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
        if step % 3 == 2:
            x = x + 0.06 * torch.randn(x.shape, generator=rng, device=x.device)
        with torch.autocast(options.device, torch.bfloat16):
            logits = model(x)
        groups = logits.split(model.sizes, 1)
        accuracy = torch.stack([group.argmax(1) == labels[:, i] for i, group in enumerate(groups)]).float()
        metrics = {"accuracy": accuracy.mean(), "worst group": accuracy.mean(1).min()}
        return attribute_loss(logits, labels, model.sizes), metrics

    classifier = trainer.fit(compute_loss)
    folder = options.work / "classifier"
    folder.mkdir(exist_ok=True)
    state = {key: value.half().cpu().contiguous() for key, value in classifier.state_dict().items()}
    save_file(state, folder / "model.safetensors")


if __name__ == "__main__":
    main()
