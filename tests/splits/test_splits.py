from __future__ import annotations

import subprocess
import sys

from midistill_tasks.splits import SPLITS


def test_the_names_that_tasks_are_made_of() -> None:
    mimir = ["arxiv", "dm_mathematics", "github", "hackernews", "pile_cc", "pubmed_central", "wikipedia"]
    assert list(SPLITS) == [
        "wikitext",
        *(f"wikimia_{length}" for length in (32, 64, 128, 256)),
        *(f"mimir_{domain}" for domain in mimir),
        *("bookcorpus", "openwebtext", "bios", "files", "canaries"),
    ]
    assert all(name == split.name for name, split in SPLITS.items())


def test_every_split_says_for_which_models_its_labels_hold() -> None:
    for split in SPLITS.values():
        assert "model" in split.valid_for
        assert split.title
        assert "\n" not in split.title + split.valid_for
        assert split.citation.startswith("@") or split.name in ("bios", "files", "canaries")


def test_a_split_has_a_loader_or_the_keys_of_the_harness() -> None:
    for split in SPLITS.values():
        assert (split.loader is None) == {"dataset_path", "test_split", "doc_to_text", "doc_to_target"}.issubset(
            split.config
        )


def test_two_claim_independent_coins_and_four_are_the_papers() -> None:
    assert [name for name, split in SPLITS.items() if split.independent_coins] == ["bios", "canaries"]
    assert [name for name, split in SPLITS.items() if split.paper] == [
        "wikimia_64",
        "mimir_arxiv",
        "bookcorpus",
        "openwebtext",
    ]


def test_importing_the_table_of_splits_loads_no_data_library() -> None:
    code = (
        "import sys, midistill_tasks.splits; "
        "print([name for name in ('datasets', 'pandas', 'pyarrow', 'faker', 'numpy', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
