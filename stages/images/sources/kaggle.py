"""`source: kaggle`: what is asked of Kaggle, through Kaggle's own client.

The client signs in and finds the archive; the bytes come by `transfer`, because the client's own download tries again
in silence for minutes, takes a full disk for a broken network, and does not compare a piece's place with what it asked.
"""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from stages import UserError
from stages.images.sources.params import Kaggle
from stages.images.sources.transfer import TRIES, Sleep, wait
from stages.images.sources.transfer import download as download_file

SIGN_IN = (
    "make a token at https://www.kaggle.com/settings and put it in KAGGLE_API_TOKEN, or run `kaggle auth login` "
    "(docs/data.md has all the ways)"
)


def download(kaggle: Kaggle, scratch: Path, sleep: Sleep = time.sleep) -> tuple[Path, dict]:
    """owner/slug and version => the archive, in `scratch` => (its path, {"version", "licence", "title"} of what came).

    Without a version the newest there is, by its number, so that two requests cannot mean two versions. Raises
    UserError for whatever Kaggle refuses or the network does; run again, it goes on where it was.
    """
    with _sentences(kaggle):
        client = _client()
        about = _try(lambda: _about(client, kaggle), kaggle, sleep)
        newest = about.current_version_number or None
        if kaggle.version and newest and kaggle.version > newest:
            raise UserError(
                f"dataset.kaggle.version is {kaggle.version}, but the newest of {kaggle.dataset} is {newest}; take "
                "that, or null."
            )
        version = kaggle.version or newest
        archive = scratch / f"{kaggle.dataset.replace('/', '--')}-{version or 'newest'}.zip"
        download_file(lambda: _locate(client, kaggle, version), archive, kaggle.dataset, sleep)
    return archive, {"version": version, "licence": about.license_name or None, "title": about.title or None}


def _client() -> Any:
    """=> Kaggle's client, signed in as Kaggle documents it; without credentials, anonymous (public sets need none)."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a help text where it finds no credentials
        from kaggle.api.kaggle_api_extended import KaggleApi  # signs in when it is imported

        api = KaggleApi()
        with contextlib.suppress(SystemExit):
            api.authenticate()
        return api.build_kaggle_client()


def _about(client: Any, kaggle: Kaggle) -> Any:
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = kaggle.dataset.split("/")
    return client.datasets.dataset_api_client.get_dataset(request)


def _locate(client: Any, kaggle: Kaggle, version: int | None) -> tuple[str, dict[str, str]]:
    """=> the archive's address, signed for a while, and the headers to ask for it with."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = kaggle.dataset.split("/")
    request.dataset_version_number = version
    with client.datasets.dataset_api_client.download_dataset(request) as response:
        sent = response.request.headers
        kept = {name: sent[name] for name in ("Authorization", "User-Agent") if name in sent}
        return response.url, kept | {"Accept-Encoding": "identity"}


def _try(ask: Callable[[], Any], kaggle: Kaggle, sleep: Sleep) -> Any:
    """A small request, tried again while the trouble may pass."""
    for tries in range(1, TRIES):
        try:
            return ask()
        except requests.HTTPError as error:
            if error.response.status_code != 429 and error.response.status_code < 500:
                raise
            sleep(wait(error, tries))
    return ask()


@contextlib.contextmanager
def _sentences(kaggle: Kaggle) -> Any:
    """What the client raises => what a person can do."""
    page = f"https://www.kaggle.com/datasets/{kaggle.dataset}"
    version = f" version {kaggle.version}" if kaggle.version else ""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code
        raise UserError(
            {
                401: f"Kaggle does not know who you are (401); {SIGN_IN}.",
                403: f"Kaggle does not let you have {kaggle.dataset} (403); accept its rules at {page}, and {SIGN_IN}.",
                404: f"Kaggle has no {kaggle.dataset}{version} (404); compare dataset.kaggle with {page}.",
                429: "Kaggle says that too much was asked of it (429); wait an hour, and run again.",
            }.get(status, f"Kaggle has trouble of its own ({status}); run again later.")
        ) from None
    except (requests.ConnectionError, requests.Timeout):
        raise UserError(
            "Kaggle cannot be reached; check the network, and http_proxy and https_proxy if you are behind one, and "
            "run again."
        ) from None
