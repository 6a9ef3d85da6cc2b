"""Download a dataset from Kaggle. Its client signs in and finds the archive; `transfer` downloads it."""

import contextlib
import functools
import io
from pathlib import Path

import requests
from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest

from stages import UserError
from stages.common.deadline import deadline
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
        try:
            with deadline(transfer.ANSWER_S):
                query = self.query | {"datasetVersionNumber": self.info["version"]}
                with self.api.download_dataset(ApiDownloadDatasetRequest.from_dict(query)) as response:
                    authorization = response.request.headers.get("Authorization")  # None at another host
                    return response.url, {"Authorization": authorization, "Accept-Encoding": "identity"}
        except (UserError, TimeoutError, requests.ConnectionError, requests.HTTPError):
            raise
        except (Exception, SystemExit) as error:  # Kaggle's client raises almost any error on another's answer.
            action = f"check that no login page of the network opens instead of {SITE}, then the credentials"
            raise UserError(f"Kaggle's answer cannot be read ({type(error).__name__}); {action}.") from None
