"""What to do where something of the hub could not be had, for data sets and models alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_NETWORK = (
    "Connect",
    "Timeout",
    "Protocol",
    "ReadError",
    "WriteError",
    "NetworkError",
    "IncompleteRead",
    "ChunkedEncoding",
)
"""In the names of what the libraries for HTTP raise; huggingface_hub has changed its own more than once."""
TRY_AGAIN = "the hub did not answer as it should: run the same again, what is downloaded and computed is kept"


def remedy(error: BaseException, name: str, kind: str = "") -> str:
    """What helps against the cause of a failed download; "" where it is none that is known.

    Args:
        error: with its causes.
        name: of the repository.
        kind: "datasets/", or "" for a model.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    causes = list(_chain(error))
    kinds = [kind for kind in (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError) if _any(causes, kind)]
    if GatedRepoError in kinds or (not kinds and ("gated dataset" in str(error) or "gated repo" in str(error))):
        page = f"https://huggingface.co/{kind}{name}"
        return f"it is gated: accept its terms at {page}, then run `hf auth login` (or set HF_TOKEN)"
    if RevisionNotFoundError in kinds:
        return "it has no such revision: give a branch, tag or commit that it has"
    if RepositoryNotFoundError in kinds or "doesn't exist on the Hub" in str(error):
        return "there is none of this name on the hub, or it is private: check the name, or run `hf auth login`"
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        failed = isinstance(cause, HfHubHTTPError) or "HTTP" in type(cause).__name__
        if (failed and (status >= 500 or status == 429)) or any(part in type(cause).__name__ for part in _NETWORK):
            return TRY_AGAIN
    return ""


def _any(causes: Iterable[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
