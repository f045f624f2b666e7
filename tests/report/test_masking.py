from __future__ import annotations

from midistill_tasks.report.masking import mask


def test_letters_and_digits_are_hidden_and_the_shape_stays():
    assert mask("Ann O'Neil, 24 Elm St.\n<b>a@x.org</b>") == "Xxx X'Xxxx, 00 Xxx Xx.\n<x>x@x.xxx</x>"


def test_letters_and_digits_of_other_scripts_are_hidden_too():
    assert mask("Żółć 東京 ٣٤ ½") == "Xxxx xx 00 0"


def test_vowel_signs_and_combining_accents_are_hidden_with_their_letters():
    assert set(mask("हिन्दी nai\u0308ve")) == {"x", " "}
