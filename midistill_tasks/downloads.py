"""What to do where something of the hub could not be had, for data sets and models alike."""

from __future__ import annotations

from collections.abc import Iterator

_BROKEN_OFF = ("Protocol", "IncompleteRead", "ChunkedEncoding", "ReadError", "ReadTimeout")
"""In the names of what the libraries for HTTP raise; huggingface_hub has changed its own more than once."""
_SERVER_ERROR, _TOO_MANY = 500, 429


def remedy(error: BaseException, name: str, kind: str = "") -> str:
    """What is the matter with a repository whose download failed, and what helps; "" where the cause is not known.

    Args:
        error: with its causes.
        name: of the repository, which begins the sentence.
        kind: "datasets/", or "" for a model.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    causes = list(_chain(error))
    known = (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError)
    found = [each for each in known if any(isinstance(cause, each) for cause in causes)]
    if GatedRepoError in found or (not found and ("gated dataset" in str(error) or "gated repo" in str(error))):
        page = f"https://huggingface.co/{kind}{name}"
        return f"is gated: accept its terms at {page}, then run `hf auth login` (or set HF_TOKEN)"
    if RevisionNotFoundError in found:
        return "has no such revision: give a branch, tag or commit that it has"
    if RepositoryNotFoundError in found or "doesn't exist on the Hub" in str(error):
        return "is not on the hub under this name, or private: check the name, or run `hf auth login`"
    if any(map(_is_passing, causes)):
        return "was not sent as it should be by the hub: run the same again, what is downloaded and computed is kept"
    return ""


def _is_passing(cause: BaseException) -> bool:
    """Whether the hub may well answer the next time."""
    status = getattr(getattr(cause, "response", None), "status_code", 0)
    busy = isinstance(status, int) and (status >= _SERVER_ERROR or status == _TOO_MANY)
    return busy or any(part in type(cause).__name__ for part in _BROKEN_OFF)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
