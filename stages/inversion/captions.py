"""The captions of the training images: templates that contain the placeholder token, or texts beside the images."""

from stages import UserError

# The templates of Gal et al. (2022), section 5 and supplement, after the ImageNet templates of CLIP.
OBJECT = (
    "a photo of a {}", "a rendering of a {}", "a cropped photo of the {}", "the photo of a {}",
    "a photo of a clean {}", "a photo of a dirty {}", "a dark photo of the {}", "a photo of my {}",
    "a photo of the cool {}", "a close-up photo of a {}", "a bright photo of the {}", "a cropped photo of a {}",
    "a photo of the {}", "a good photo of the {}", "a photo of one {}", "a close-up photo of the {}",
    "a rendition of the {}", "a photo of the clean {}", "a rendition of a {}", "a photo of a nice {}",
    "a good photo of a {}", "a photo of the nice {}", "a photo of the small {}", "a photo of the weird {}",
    "a photo of the large {}", "a photo of a cool {}", "a photo of a small {}",
)  # fmt: skip
STYLE = tuple(f"{start} in the style of {{}}" for start in (
    "a painting", "a rendering", "a cropped painting", "the painting", "a clean painting", "a dirty painting",
    "a dark painting", "a picture", "a cool painting", "a close-up painting", "a bright painting",
    "a cropped painting", "a good painting", "a close-up painting", "a rendition", "a nice painting",
    "a small painting", "a weird painting", "a large painting",
))  # fmt: skip
TEMPLATES = {"object": OBJECT, "style": STYLE}


def build_captions(
    property: str, placeholder: str, templates: list[str] | None, texts: list[str | None]
) -> tuple[list[str], list[list[int]]]:
    """Return all distinct captions, and for every image the indices of the captions that it may have.

    `templates` replaces the templates of `property`. `texts` has an entry per image: lines that replace the templates
    for that image, or None. `{}` in a template or line stands for the placeholder token. Raises UserError for a caption
    without it.
    """
    common = [_fill(text, placeholder, "train.captions") for text in templates or TEMPLATES[property]]
    index = {caption: i for i, caption in enumerate(dict.fromkeys(common))}
    choices = []
    for i, text in enumerate(texts):
        captions = common
        if text is not None:
            name = f"the caption beside training image {i}"
            captions = [_fill(line.strip(), placeholder, name) for line in text.splitlines() if line.strip()]
            if not captions:
                raise UserError(f"{name} is empty; write a caption or remove the file.")
        choices.append([index.setdefault(caption, len(index)) for caption in captions])
    return list(index), choices


def _fill(text: str, placeholder: str, name: str) -> str:
    filled = text.replace("{}", placeholder)
    if placeholder not in filled:
        raise UserError(f"{name}: {text!r} does not contain the placeholder; write {{}} where {placeholder} belongs.")
    return filled
