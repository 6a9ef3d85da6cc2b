"""Train the text and vision towers by contrast (Radford et al. 2021), with auxiliary attribute heads.

The heads are discarded. They read the attributes of a named creature linearly off the embedding of its name, and so
arrange the embedding table by attribute: a new embedding, found by textual inversion, can be a creature without a name.

Legend: B batch, L tokens of a caption, K classes of all attribute groups together.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from starter.attribute_classifier import attribute_loss
from starter.captions import NAMES
from starter.labels import CREATURE_GROUPS, GROUPS
from starter.recipe.dataset import ImageDataset
from starter.recipe.options import parse_options
from starter.recipe.training import Trainer, step_generator
from starter.world.rendering import SIDE

SHIFT = 8  # px of random translation


def clip_config(tokenizer: CLIPTokenizer, tiny: bool = False) -> CLIPConfig:
    """Return the config of both towers."""
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
    """Return the preprocessing of the vision tower."""
    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=half, image_std=half
    )


class CLIPWithAttributeHeads(nn.Module):
    """CLIP with linear heads on the image embedding, a name's token embedding and a name's last hidden state."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip
        width = clip.config.text_config.hidden_size
        self.sizes = [len(values) for values in GROUPS.values()]
        self.creature_sizes = [len(values) for values in CREATURE_GROUPS.values()]
        self.image_head = nn.Linear(clip.config.projection_dim, sum(self.sizes))
        self.token_head = nn.Linear(width, sum(self.creature_sizes))
        self.hidden_head = nn.Linear(width, sum(self.creature_sizes))


def contrastive_loss(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor, tokens: torch.Tensor):
    """Return the symmetric cross entropy of CLIP and the accuracy; equal captions are not negatives of each other."""
    logits = scale * F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    code = (tokens * torch.arange(1, tokens.shape[1] + 1, device=tokens.device) ** 5).sum(1)
    same = (code[:, None] == code[None]) & ~torch.eye(len(code), dtype=torch.bool, device=code.device)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (logits.argmax(1) == target).float().mean()


def total_loss(model: CLIPWithAttributeHeads, x, tokens, labels, is_name) -> tuple[torch.Tensor, dict]:
    """Return the contrastive loss plus the weighted losses of the attribute heads, and each of them.

    Shapes: x B x 3 x 128 x 128, tokens B x L, labels B x groups; `is_name` is a mask over the vocabulary.
    """
    clip = model.clip
    image = clip.visual_projection(clip.vision_model(pixel_values=x).pooler_output).float()
    outputs = clip.text_model(input_ids=tokens)
    text = clip.text_projection(outputs.pooler_output).float()
    contrast, accuracy = contrastive_loss(text, image, clip.logit_scale.exp().clamp(max=100), tokens)

    has_name, position = is_name[tokens].max(1)
    count = max(1, len(tokens) // 3)  # a fixed number of captions with a name: a variable shape would synchronize
    rows = has_name.float().topk(count).indices
    columns = position[rows]
    creature_labels = labels[rows][:, : len(model.creature_sizes)]
    token_logits = model.token_head(clip.text_model.embeddings.token_embedding(tokens[rows, columns]))
    hidden_logits = model.hidden_head(outputs.last_hidden_state[rows, columns])
    losses = {
        "contrast": contrast,
        "image": attribute_loss(model.image_head(image), labels, model.sizes),
        "token": attribute_loss(token_logits, creature_labels, model.creature_sizes),
        "hidden": attribute_loss(hidden_logits, creature_labels, model.creature_sizes),
    }
    total = losses["contrast"] + 0.5 * losses["image"] + 0.4 * losses["token"] + 0.4 * losses["hidden"]
    return total, {**losses, "accuracy": accuracy}


def main(arguments: list[str] | None = None) -> None:
    """Train on the drawn images and captions; write the model, its processor and its tokenizer to work/clip."""
    options = parse_options(__doc__, arguments)
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    model = CLIPWithAttributeHeads(CLIPModel(clip_config(tokenizer, options.tiny))).to(options.device)
    dataset = ImageDataset(options.work, options.device)
    batch = options.batch or 1536
    is_name = torch.zeros(len(tokenizer), dtype=torch.bool)
    is_name[tokenizer.convert_tokens_to_ids([name + "</w>" for name in NAMES])] = True
    is_name = is_name.to(options.device)
    trainer = Trainer("clip", model, options, lr=1e-3, ema_decay=0.998)

    def compute_loss(step: int) -> tuple[torch.Tensor, dict]:
        rng = step_generator(1, step, options)
        index = dataset.sample_indices(batch, rng)
        which = torch.randint(dataset.tokens.shape[1], (batch,), generator=rng, device=options.device)
        x = F.pad(dataset.load(index, rng), (SHIFT,) * 4, mode="replicate")
        shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=torch.Generator().manual_seed(step)).tolist()
        x = torch.roll(x, shift, (2, 3))[:, :, SHIFT:-SHIFT, SHIFT:-SHIFT]
        with torch.autocast(options.device, torch.bfloat16):
            return total_loss(model, x, dataset.tokens[index, which].long(), dataset.labels[index], is_name)

    clip = trainer.fit(compute_loss).clip
    clip.save_pretrained(options.work / "clip")
    image_processor().save_pretrained(options.work / "clip")
    tokenizer.save_pretrained(options.work / "clip")


if __name__ == "__main__":
    main()
