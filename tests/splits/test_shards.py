"""How a split is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midistill_tasks.errors import InputError
from midistill_tasks.splits.shards import Shard, parse_shard


@given(st.lists(st.integers(0, 30).map(str), min_size=1, max_size=60), st.data())
def test_each_text_is_in_one_shard_and_no_document_in_two(clusters, data):
    of = data.draw(st.integers(1, len(set(clusters))))
    parts = [Shard(number, of).places(clusters) for number in range(1, of + 1)]
    assert all(parts)
    assert sorted(place for part in parts for place in part) == list(range(len(clusters)))
    documents = [{clusters[place] for place in part} for part in parts]
    assert sum(map(len, documents)) == len(set(clusters))
    assert max(map(len, documents)) - min(map(len, documents)) <= 1


def test_more_shards_than_documents_are_refused():
    with pytest.raises(InputError, match="3 shards of 2 documents: a document is never divided; use at most 2"):
        Shard(1, 3).places(["a", "b", "a"])


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_a_shard_that_is_none_says_how_it_is_written(text):
    with pytest.raises(InputError, match=r"option 'shard' is NUMBER/OF, such as \"3/16\""):
        parse_shard(text)
