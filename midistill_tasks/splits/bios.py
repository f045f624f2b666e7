"""The embedded default: synthetic biographies with personal details, members by fair coins. No download.

Each person is drawn from one distribution (Faker's names, addresses, jobs and companies; sentences of several forms),
and a coin of its own, tossed with another generator, makes it a member. So there is no shift between the sides, and
whatever an attack finds is memorisation. Phone numbers use 555, e-mail addresses example.org and its like: nobody's.
"""

from __future__ import annotations

import random
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.splits import readers
from midistill_tasks.splits.base import Split
from midistill_tasks.splits.options import TextOptions

if TYPE_CHECKING:
    import datasets

PEOPLE = 1000
SEED = 20250517
"""Fixed: a model trained on the members stays one whose members these are. The option ``seed`` only draws texts."""


def load(options: TextOptions | None = None, copy: Path | None = None) -> datasets.Dataset:
    """The biographies with their labels, in the order of their making; the options change nothing here."""
    texts = biographies()
    coins = random.Random(f"members {SEED}")
    return readers.to_dataset({"text": list(texts), "label": [int(coins.random() < 0.5) for _ in texts]}, "bios")


def members() -> list[str]:
    """The texts that a model must have been trained on for the labels to be true of it."""
    rows = load()
    return [text for text, label in zip(rows["text"], rows["label"], strict=True) if label == 1]


@lru_cache(maxsize=4)  # a study asks for the same ones for every model
def biographies(people: int = PEOPLE, seed: int = SEED) -> tuple[str, ...]:
    """Texts of 90 to 130 tokens or so, the same on every machine for one version of Faker."""
    from faker import Faker

    fake = Faker("en_US")
    fake.seed_instance(seed)
    return tuple(_biography(fake, fake.random) for _ in range(people))


def _biography(fake: Any, coin: random.Random) -> str:
    first, last = fake.first_name(), fake.last_name()
    born = date.fromordinal(coin.randint(date(1945, 1, 1).toordinal(), date(2002, 12, 31).toordinal()))
    month = _MONTHS[born.month - 1]  # not strftime's, which follows the machine's locale
    address = f"{fake.street_address()}, {fake.city()}, {fake.state_abbr()} {fake.postcode()}"
    email = f"{first}.{last}{coin.randint(1, 99)}@{fake.safe_domain_name()}".lower()
    phone = f"{coin.randint(201, 989)}-555-{coin.randint(0, 9999):04d}"
    job, company, since = fake.job().lower().split(",")[0], fake.company(), coin.randint(born.year + 19, 2024)
    partner, animal = fake.first_name(), coin.choice(_ANIMALS)
    birth = coin.choice(
        [
            f"{first} {last} was born on {month} {born.day}, {born.year} in {fake.city()}.",
            f"Born in {fake.city()} on {born.day} {month} {born.year}, {first} {last} has {coin.choice(_SIBLINGS)}.",
        ]
    )
    home = coin.choice([f"{first} lives at {address}.", f"The home address is {address}."])
    work = coin.choice(
        [
            f"Since {since} {first} has worked at {company} as {job}, employee number {fake.numerify('#####')}.",
            f"{company} hired {first} in {since}; the job is {job}, the salary {coin.randint(28, 190)},000 dollars.",
        ]
    )
    contact = coin.choice(
        [f"Call {phone} or write to {email}.", f"The e-mail address is {email}, the telephone number {phone}."]
    )
    family = coin.choice(
        [
            f"{first} is married to {partner} and keeps {animal}.",
            f"With {partner} from {fake.city()}, {first} shares {animal} and a love of {coin.choice(_HOBBIES)}.",
        ]
    )
    account = f"Account {fake.numerify('####-####-####')}, blood group {coin.choice(_BLOOD)}."
    middle = [home, work, contact, family]
    coin.shuffle(middle)
    return " ".join([birth, *middle, account])


_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_SIBLINGS = ("no siblings", "a brother", "a sister", "two brothers", "two sisters", "a twin")
_ANIMALS = ("a grey cat", "two dogs", "a parrot", "an old horse", "bees", "three hens", "a tortoise", "no pets")
_HOBBIES = ("chess", "rowing", "opera", "gardening", "cycling", "astronomy", "baking", "old maps", "climbing", "jazz")
_BLOOD = ("A+", "A-", "B+", "B-", "AB+", "AB-", "0+", "0-")

SPLITS = (
    Split(
        name="bios",
        title="synthetic biographies with personal details, members by fair coins (embedded, no shift, no download)",
        valid_for="models trained on this split's members, as `midistill demo` trains one (any other is a control)",
        loader=load,
        downloads=False,
        independent_coins=True,
    ),
)
