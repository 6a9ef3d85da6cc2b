"""Figures => sentences that a person reads without knowing the field."""

SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number(count: int) -> str:
    """7 => seven; from thirteen on the digits."""
    return SMALL[count] if 0 <= count < len(SMALL) else f"{count:,}"


def plural(count: int, thing: str) -> str:
    """7, picture => seven pictures."""
    return f"{number(count)} {thing}{'' if count == 1 else 's'}"


def percent(value: float, error: float) -> tuple[str, str]:
    """=> both with as many decimals as the error is worth."""
    digits = 1 if error >= 0.1 else 2
    return f"{value:.{digits}f}\u00a0%".replace("-", "−"), f"{error:.{digits}f}"


def lead(pictures: int, vectors: int, width: int, learnt: bool) -> str:
    """=> what was done, for somebody who has never heard of it."""
    shown = plural(pictures, "picture")
    taught = "taught" if learnt else "were to teach"
    return (
        f"{shown[0].upper()}{shown[1:]} {taught} an image model one new word. Nothing in the model was changed: all "
        f"that there is to learn is the word itself, {vectors * width:,} numbers."
    )


def verdict(train: dict, known: str) -> dict:
    """train.json, the initializer word => whether the word was learnt, and a sentence that says so honestly."""
    fall = train["fall_percent"]
    size = "{} (± {})".format(*percent(abs(fall), train["fall_stderr_percent"]))
    measured = "On pictures that were held out, the model’s denoising error with the new word is"
    when = f"at step {train['best_step']:,} of {train['steps_run']:,}"
    stopped = "; training stopped by itself, with no more to be gained" if train["stopped_early"] else ""
    if train["learnt"]:
        text = f"{measured} {size} below that with “{known}”. The word that is kept is the best, {when}{stopped}."
    else:
        text = (
            f"It was not. {measured} {size} {'below' if fall >= 0 else 'above'} that with “{known}”, too "
            "little to tell from chance. Try more steps, another learning rate, or an initializer word that is nearer."
        )
    return {"learnt": train["learnt"], "text": text}


def tiles(figures: dict, train: dict, word: dict, known: str) -> list[dict]:
    """metrics.json, train.json, the word's file => the few figures that matter: value, error, what it means."""
    fall = percent(train["fall_percent"], train["fall_stderr_percent"])
    shown = [
        _share(figures, "recovered_share", "Likeness", f"of the way from “{known}” to real pictures, as CLIP sees it"),
        _share(figures, "dino_recovered_share", "Likeness, by DINO", "the same way, as DINO sees it"),
        {
            "name": "Denoising error",
            "value": ("−" if fall[0][0] != "−" else "+") + fall[0].lstrip("−"),
            "error": f"± {fall[1]}",
            "note": f"on held-out pictures, against “{known}”",
        },
        _share(figures, "prompt_following_kept", "Prompt", f"as true to the rest of the prompt as “{known}”"),
        {
            "name": "Learnt",
            "value": f"{word['vectors'] * word['width']:,}",
            "error": "numbers",
            "note": f"{plural(word['vectors'], 'vector')} of {word['width']}, in a file of {word['bytes']:,} bytes",
        },
    ]
    return [tile for tile in shown if tile]


def scale(figures: dict, known: str, placeholder: str) -> list[dict]:
    """Similarities to the held-out pictures => marks on a line: the initializer word, the new one, real pictures."""
    marks = [
        {"kind": "known", "label": f"“{known}”", "value": figures["image_similarity_initializer"]},
        {"kind": "word", "label": placeholder, "value": figures["image_similarity_word"]},
        {"kind": "real", "label": "real pictures", "value": figures["image_similarity_real"]},
    ]
    low, high = (pick(mark["value"] for mark in marks) for pick in (min, max))
    room = 0.12 * ((high - low) or 1)
    for mark in marks:
        mark["at"] = round(100 * (mark["value"] - low + room) / (high - low + 2 * room), 1)
    return marks


def _share(figures: dict, key: str, name: str, note: str) -> dict | None:
    if key not in figures:
        return None
    value, error = 100 * figures[key], 100 * figures[f"{key}_stderr"]
    return {"name": name, "value": f"{value:.0f}\u00a0%".replace("-", "−"), "error": f"± {error:.0f}", "note": note}
