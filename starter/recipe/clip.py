"""`python -m starter.recipe.clip`: text and vision towers by contrast (Radford et al. 2021), with attribute heads.

The heads are thrown away. They read the attributes of a named creature off the name's own row of the table, linearly,
and so lay the table out by attribute: a new row, found by textual inversion, can be a creature that has no name.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from starter.captions import NAMES
from starter.labels import CREATURE_GROUPS, GROUPS
from starter.recipe.options import parse_options
from starter.recipe.training import ImageDataset, Trainer, step_generator
from starter.world.rendering import SIDE


def clip_config(tokenizer: CLIPTokenizer, tiny: bool = False) -> CLIPConfig:
    """=> the sizes of both towers."""
    width, layers, inner = (32, 1, 64) if tiny else (256, 3, 512)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "projection_dim": 128,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 32 if tiny else 192,
        "intermediate_size": inner,
        "num_hidden_layers": 1 if tiny else 4,
        "num_attention_heads": 4,
        "projection_dim": 128,
        "image_size": SIDE,
        "patch_size": 16,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=128)


def image_processor() -> CLIPImageProcessor:
    """=> what an image goes through before the vision tower."""
    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=half, image_std=half
    )


class CLIPWithAttributeHeads(nn.Module):
    """CLIP and linear readers of attributes: from the picture, from a name's row, from a name's last hidden state."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip
        width, seen = clip.config.text_config.hidden_size, clip.config.projection_dim
        self.sizes = [len(v) for v in GROUPS.values()]
        self.named_sizes = [len(v) for v in CREATURE_GROUPS.values()]
        self.image_head = nn.Linear(seen, sum(self.sizes))
        self.token_head = nn.Linear(width, sum(self.named_sizes))
        self.hidden_head = nn.Linear(width, sum(self.named_sizes))

    @staticmethod
    def attribute_loss(logits: torch.Tensor, labels: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """=> the mean cross entropy over the groups."""
        parts = logits.float().split(sizes, 1)
        return sum(F.cross_entropy(part, labels[:, i]) for i, part in enumerate(parts)) / len(sizes)


def contrastive_loss(model: CLIPWithAttributeHeads, x, tokens, labels, names) -> tuple[torch.Tensor, dict]:
    """pictures, captions => the loss. Equal captions in a batch are no negatives of each other."""
    clip = model.clip
    image = clip.visual_projection(clip.vision_model(pixel_values=x).pooler_output).float()
    text_out = clip.text_model(input_ids=tokens)
    text = clip.text_projection(text_out.pooler_output).float()
    scale = clip.logit_scale.exp().clamp(max=100)
    logits = scale * F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    code = (tokens * torch.arange(1, tokens.shape[1] + 1, device=tokens.device) ** 5).sum(1)
    same = (code[:, None] == code[None]) & ~torch.eye(len(code), dtype=torch.bool, device=code.device)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    seen = model.attribute_loss(model.image_head(image), labels, model.sizes)
    has, where = (tokens >= names[0]).logical_and(names[2][tokens.clamp(max=len(names[2]) - 1)]).max(1)
    count = max(1, len(tokens) // 3)  # a fixed number of captions with a name, so that no step waits for the device
    rows = has.float().topk(count).indices
    at = where[rows]
    named = labels[rows][:, : len(model.named_sizes)]
    row = model.token_head(clip.text_model.embeddings.token_embedding(tokens[rows, at]))
    hidden = model.hidden_head(text_out.last_hidden_state[rows, at])
    read_row = model.attribute_loss(row, named, model.named_sizes)
    read_hidden = model.attribute_loss(hidden, named, model.named_sizes)
    right = (logits.argmax(1) == target).float().mean()
    total = loss + 0.5 * seen + 0.4 * read_row + 0.4 * read_hidden
    return total, {"contrast": loss, "right": right, "seen": seen, "row": read_row, "hidden": read_hidden}


def main(arguments: list[str] | None = None) -> None:
    """arrays => work/clip: the model, its processor and its tokenizer."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    model = CLIPWithAttributeHeads(CLIPModel(clip_config(tokenizer, options.tiny))).to(options.device)
    world = ImageDataset(options.work, options.device)
    batch = options.batch or 1536
    ids = tokenizer.convert_tokens_to_ids([name + "</w>" for name in NAMES])
    is_name = torch.zeros(len(tokenizer), dtype=torch.bool)
    is_name[ids] = True
    names = (min(ids), max(ids), is_name.to(options.device))
    trainer = Trainer("clip", model, options, rate=1e-3, decay=0.998)

    def compute_loss(step: int):
        rng = step_generator(1, step, options)
        index = world.sample_indices(batch, rng)
        which = torch.randint(world.tokens.shape[1], (batch,), generator=rng, device=options.device)
        x = world.load(index, rng)
        shift = torch.randint(-8, 9, (2,), generator=torch.Generator().manual_seed(step)).tolist()
        x = torch.roll(F.pad(x, (8, 8, 8, 8), mode="replicate"), shift, (2, 3))[:, :, 8:-8, 8:-8]
        with torch.autocast(options.device, torch.bfloat16):
            return contrastive_loss(model, x, world.tokens[index, which].long(), world.labels[index], names)

    clip = trainer.fit(compute_loss).clip
    clip.save_pretrained(options.work / "clip")
    image_processor().save_pretrained(options.work / "clip")
    tokenizer.save_pretrained(options.work / "clip")


if __name__ == "__main__":
    main()
