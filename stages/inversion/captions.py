"""What is said of the training pictures: sentences with a place for the word."""

from stages import UserError

# The sentences of Gal et al. (2022), section 5 and its supplement, after the ImageNet templates of CLIP.
OBJECT = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
STYLE = tuple(
    f"{article} in the style of {{}}"
    for article in (
        "a painting",
        "a rendering",
        "a cropped painting",
        "the painting",
        "a clean painting",
        "a dirty painting",
        "a dark painting",
        "a picture",
        "a cool painting",
        "a close-up painting",
        "a bright painting",
        "a cropped painting",
        "a good painting",
        "a close-up painting",
        "a rendition",
        "a nice painting",
        "a small painting",
        "a weird painting",
        "a large painting",
    )
)
TEMPLATES = {"object": OBJECT, "style": STYLE}


def sentences(
    property: str, placeholder: str, own: list[str] | None, beside: list[str | None]
) -> tuple[list[str], list[list[int]]]:
    """Templates, captions beside the pictures => sentences, and for every picture the numbers of those it may have.

    `own` replaces the templates of `property`. `beside` has a text a picture: lines, each with `{}` or the placeholder
    where the word stands, or None for a picture that takes the templates. Raises UserError for a text without a place.
    """
    templates = [_place(text, placeholder, "train.captions") for text in own or TEMPLATES[property]]
    known: dict[str, int] = {text: i for i, text in enumerate(dict.fromkeys(templates))}
    choices = []
    for i, text in enumerate(beside):
        if text is None:
            choices.append([known[t] for t in templates])
            continue
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise UserError(f"the caption beside training picture {i} is empty; write a sentence or remove the file.")
        placed = [_place(line, placeholder, f"the caption beside training picture {i}") for line in lines]
        choices.append([known.setdefault(line, len(known)) for line in placed])
    return list(known), choices


def _place(text: str, placeholder: str, where: str) -> str:
    filled = text.replace("{}", placeholder)
    if placeholder not in filled:
        raise UserError(f"{where}: {text!r} has no place for the word; write {{}} where {placeholder} belongs.")
    return filled
