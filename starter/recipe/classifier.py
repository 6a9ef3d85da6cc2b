"""`python -m starter.recipe.classifier`: the attribute classifier that the benchmarks use."""

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from starter.attribute_classifier import AttributeClassifier
from starter.recipe.clip import CLIPWithAttributeHeads
from starter.recipe.options import parse_options
from starter.recipe.training import ImageDataset, Trainer, step_generator


def main(arguments: list[str] | None = None) -> None:
    """arrays => work/classifier/model.safetensors, float16."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    model = AttributeClassifier().to(options.device).to(memory_format=torch.channels_last)
    world = ImageDataset(options.work, options.device)
    batch = options.batch or 256
    trainer = Trainer("classifier", model, options, rate=2e-3, decay=0.998)

    def compute_loss(step: int):
        rng = step_generator(2, step, options)
        index = world.sample_indices(batch, rng)
        x = world.load(index, rng)
        if step % 3 == 1:  # generated pictures are a little soft: the classifier must not mind
            x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
        if step % 3 == 2:
            x = x + 0.06 * torch.randn(x.shape, generator=rng, device=x.device)
        with torch.autocast(options.device, torch.bfloat16):
            logits = model(x)
        loss = CLIPWithAttributeHeads.attribute_loss(logits, world.labels[index], model.sizes)
        right = torch.stack([p.argmax(1) == world.labels[index, i] for i, p in enumerate(logits.split(model.sizes, 1))])
        return loss, {"right": right.float().mean(), "worst": right.float().mean(1).min()}

    classifier = trainer.fit(compute_loss)
    (options.work / "classifier").mkdir(exist_ok=True)
    save_file(
        {k: v.half().cpu().contiguous() for k, v in classifier.state_dict().items()},
        options.work / "classifier/model.safetensors",
    )


if __name__ == "__main__":
    main()
