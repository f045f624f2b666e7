from __future__ import annotations

from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import wikitext
from midistill_tasks.splits.options import TextOptions

PARTS = ("train", "validation", "test")


def write_parts(folder: Path, **texts: str) -> Path:
    for part, text in texts.items():
        (folder / f"{part}.txt").write_text(text)
    return folder


def article(title: str, word: str, words: int) -> str:
    return f" \n = {title} = \n \n {' '.join([word] * words)} \n \n = = Section = = \n \n {word} end . \n"


def test_members_are_train_and_every_passage_has_128_words_of_one_article(tmp_path: Path) -> None:
    folder = write_parts(
        tmp_path,
        train=article("A", "a", 300) + article("B", "b", 128),
        validation=article("C", "c", 130),
        test=article("D", "d", 100),
    )
    rows = wikitext.load(TextOptions(), folder)
    assert rows["label"][:] == [1, 1, 1, 0]
    assert rows["cluster"][:] == ["A (train 0)", "A (train 0)", "B (train 1)", "C (validation 0)"]
    for text in rows["text"]:
        assert len(text.split()) == wikitext.WORDS
        assert len(set(text.split())) == 1
        assert "=" not in text


def test_a_passage_keeps_the_line_breaks_of_the_corpus() -> None:
    assert list(wikitext.passages(["a b c", "d e", "f g"], words=3)) == ["a b c", "d e \n f"]


def test_a_formula_between_text_lines_is_no_title() -> None:
    lines = ["", " = Title = ", "", " text ", " = 1 and x = ", " more ", "", " = = Part = = ", "", " last "]
    assert list(wikitext.articles(lines)) == [("Title", ["text", "= 1 and x =", "more", "last"])]


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_parts(tmp_path, validation=article("C", "c", 130), test=article("D", "d", 130))
    with pytest.raises(InputError, match="has no part 'train'; its parts: validation, test"):
        wikitext.load(TextOptions(), folder)


def test_a_clone_with_a_folder_per_configuration_is_read(tmp_path: Path) -> None:
    for name, word in (("wikitext-103-raw-v1", "x"), ("wikitext-2-raw-v1", "y")):
        (tmp_path / name).mkdir()
        write_parts(tmp_path / name, **{part: article(part, word, 128) for part in PARTS})
    assert {word for text in wikitext.load(TextOptions(), tmp_path)["text"] for word in text.split()} == {"y"}


def test_the_published_parts_hold_sixty_articles_each(shared: Path) -> None:
    for part in ("validation", "test"):
        lines = (shared / "wikitext-2" / f"{part}.txt").read_text().split("\n")
        found = list(wikitext.articles(lines))
        assert len(found) == 60
        words = sum(len(paragraph.split()) for _, paragraphs in found for paragraph in paragraphs)
        assert words > 0.97 * sum(len(line.split()) for line in lines), "only headings are left out"


def test_the_published_text_as_members_and_non_members(shared: Path, tmp_path: Path) -> None:
    texts = {part: (shared / "wikitext-2" / f"{part}.txt").read_text() for part in ("validation", "test")}
    head, tail = texts["test"][: len(texts["test"]) // 2], texts["test"][len(texts["test"]) // 2 :]
    rows = wikitext.load(TextOptions(), write_parts(tmp_path, train=texts["validation"], validation=head, test=tail))
    assert len(rows) > 3000
    assert {len(text.split()) for text in rows["text"]} == {128}
    corpus = texts["validation"]
    whole = sum(f" {text} " in corpus for text, label in zip(rows["text"], rows["label"], strict=True) if label)
    assert whole > 0.7 * sum(rows["label"][:]), "passages that cross no heading stand in the corpus letter by letter"
