"""Download a dataset from Kaggle. Its client signs in and finds the archive; `transfer` downloads it."""

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path

import requests
from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest

from stages import UserError
from stages.images.sources import transfer
from stages.images.sources.params import Kaggle

SITE = "https://www.kaggle.com"


def download(kaggle: Kaggle, folder: Path, max_bytes: float) -> tuple[Path, dict]:
    """Download the archive of a dataset to `folder`; return its path, and values for the receipt."""
    remote, archive = _Remote(kaggle), folder / f"{kaggle.dataset.replace('/', '--')}.zip"
    page = f"{SITE}/datasets/{kaggle.dataset}"
    sign_in = f"set KAGGLE_API_TOKEN to a token from {SITE}/settings, or run `kaggle auth login`"
    rules = f"accept the rules of the dataset at {page}, and {sign_in}"
    advice = {401: sign_in, 403: rules, 404: f"compare dataset.kaggle with {page}"}
    transfer.download(remote.locate, archive, "Kaggle", advice, max_bytes)
    return archive, {"name": kaggle.dataset, **remote.info}


class _Remote:
    """A dataset on Kaggle, in the version of the params or else the newest."""

    def __init__(self, kaggle: Kaggle) -> None:
        self.version = kaggle.version
        self.query = dict(zip(("ownerSlug", "datasetSlug"), kaggle.dataset.split("/"), strict=True))

    @functools.cached_property
    def api(self) -> DatasetApiClient:
        with contextlib.redirect_stdout(io.StringIO()):  # It prints help if there are no credentials.
            from kaggle import api  # signs in
        return api.build_kaggle_client().datasets.dataset_api_client

    @functools.cached_property
    def info(self) -> dict:
        """Return the version, licence and title."""
        found = self.api.get_dataset(ApiGetDatasetRequest.from_dict(self.query))
        newest = found.current_version_number or None
        version = self.version or newest
        if newest and version > newest:
            raise UserError(f"dataset.kaggle.version is {version}, but the newest is {newest}; take that, or null.")
        return {"version": version, "licence": found.license_name or None, "title": found.title or None}

    def locate(self) -> tuple[str, dict[str, str | None]]:
        """Return the address of the archive, which expires, and the headers to request it with."""
        with _reading(), transfer.deadline():
            request = ApiDownloadDatasetRequest.from_dict(self.query | {"datasetVersionNumber": self.info["version"]})
            with self.api.download_dataset(request) as response:
                authorization = response.request.headers.get("Authorization")  # None at another host
                return response.url, {"Authorization": authorization, "Accept-Encoding": "identity"}


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Raise UserError for answers that Kaggle's client cannot read: its errors are of almost every class."""
    try:
        yield
    except (UserError, requests.ConnectionError, requests.HTTPError, requests.Timeout):
        raise
    except (Exception, SystemExit) as error:
        action = f"check that no login page of the network opens instead of {SITE}, then the credentials"
        raise UserError(f"Kaggle's answer cannot be read ({type(error).__name__}); {action}.") from None
