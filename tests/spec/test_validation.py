"""Pydantic's errors at their line and column, in words that say what to write."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from roboalign.spec.base import FieldError, Name, Spec, items
from roboalign.spec.diagnostics import render, sort_diagnostics
from roboalign.spec.document import parse
from roboalign.spec.validation import validate


class Cat(Spec):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)] = 9
    """How many are left. More text."""
    cat: float = 1.0
    """A key that is named as the tag."""


class Dog(Spec):
    kind: Literal["dog"]
    tricks: Annotated[tuple[Name, ...], items()] = ("sit",)
    breed: Name


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Room(Spec):
    height: Annotated[float, Field(gt=0)]
    """Metres. Our choice."""
    grid: Annotated[tuple[int, int], Field(strict=False)] = (1, 1)

    @field_validator("grid")
    @classmethod
    def _fits(cls, grid: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if grid[0] * grid[1] > 100:
            raise ValueError("more than 100 cells")
        return grid


class House(Spec):
    pet: Pet = Cat(kind="cat")
    maybe: Pet | None = None
    pets: Annotated[tuple[Pet, ...], items(0)] = ()
    rooms: dict[Name, Room] = {}  # noqa: RUF012
    doors: dict[Literal["front", "back"], int] = {}  # noqa: RUF012
    colour: Literal["red", "green"] = "red"
    open: bool = False
    label: str = "x"
    size: int | Literal["any"] = 1

    @model_validator(mode="after")
    def _consistent(self) -> "House":
        if self.open and "hall" in self.rooms and self.rooms["hall"].height < 2:
            raise FieldError("rooms.hall.height", "an open house needs a hall of 2 m")
        if self.open and self.colour == "green":
            raise FieldError("colour", "an open house is red")
        return self


def errors(text: str, kind: Any = House) -> list[str]:
    _, found = validate(TypeAdapter(kind), kind, parse(text, "f"))
    return [render(item).split("\n")[0].removeprefix("f:").replace(" error:", "") for item in sort_diagnostics(found)]


CASES = [
    ("colr: red", ["1:1: unknown key 'colr'; did you mean 'colour'?"]),
    (
        "qqqqqq: 1",
        ["1:1: unknown key 'qqqqqq'; known keys: pet, maybe, pets, rooms, doors, colour, open, label, size"],
    ),
    ("colour: rd", ["1:9: unknown value 'rd'; did you mean 'red'?"]),
    ("colour: blue", ["1:9: unknown value 'blue'; it is one of red, green"]),
    ("open: yes", ["1:7: 'open' must be true or false, not the text 'yes'; write true"]),
    ("open: 'false'", ["1:7: 'open' must be true or false, not the text 'false'; write false"]),
    ("open: |\n  a: 1\n  b: 2", ["1:1: 'open' must be true or false, not the text 'a: 1 b: 2'"]),
    ("label: 12", ["1:8: 'label' must be text, not 12; put it in quotes"]),
    ("pet: {kind: cow}", ["1:13: unknown value 'cow'; it is one of cat, dog"]),
    ("pet: {kind: cart}", ["1:13: unknown value 'cart'; did you mean 'cat'?"]),
    ("pet: {lives: 3}", ["1:1: missing key 'kind'; it is one of cat, dog"]),
    ("pet:\n  knd: cat", ["2:3: unknown key 'knd'; did you mean 'kind'?"]),
    ("pet: 3", ["1:6: 'pet' must be a mapping, not 3"]),
    ("pet: {kind: cat, lives: 10}", ["1:25: 'lives' must be at most 9, not 10"]),
    ("pet: {kind: cat, lives: 2.0}", ["1:25: 'lives' must be a whole number, not 2.0; write 2"]),
    ("pet: {kind: cat, lives: '2'}", ["1:25: 'lives' must be a whole number, not the text '2'; remove the quotes"]),
    ("pet: {kind: cat, cat: x}", ["1:23: 'cat' must be a number, not the text 'x'"]),
    ("pet: {kind: cat, cat: '1e-4'}", ["1:23: 'cat' must be a number, not the text '1e-4'; remove the quotes"]),
    ("pet: {kind: cat, cat: .nan}", ["1:23: 'cat' must be a finite number, not nan"]),
    ("pet: {kind: dog}", ["1:1: missing key 'breed'"]),
    ("pet: {kind: dog, bred: x}", ["1:18: unknown key 'bred'; did you mean 'breed'?"]),
    ("maybe: {kind: dog, breed: X y}", ["1:27: 'breed' must be lower-case letters, digits and '_'"]),
    ("maybe: {kind: cat, livs: 1}", ["1:20: unknown key 'livs'; did you mean 'lives'?"]),
    ("pets: [{kind: cat}, {kind: cat, livs: 1}]", ["1:33: unknown key 'livs'; did you mean 'lives'?"]),
    ("pets:\n  - kind: cat\n  - lives: 1", ["3:5: missing key 'kind'; it is one of cat, dog"]),
    ("pets: {kind: cat}", ["1:7: 'pets' must be a list, not a mapping"]),
    ("pet: {kind: dog, breed: a, tricks: sit}", ["1:36: 'tricks' must be a list, not the text 'sit'; write [sit]"]),
    ("pet: {kind: dog, breed: a, tricks: []}", ["1:36: 'tricks' must have at least 1 item, not 0"]),
    ("pet: {kind: dog, breed: a, tricks: [sit, 3]}", ["1:42: 'tricks', item 2, must be text, not 3; put it in quotes"]),
    ("rooms:\n  hall: {}", ["2:3: missing key 'height' (Metres)"]),
    ("rooms:\n  hall: {hight: 2}", ["2:10: unknown key 'hight'; did you mean 'height'?"]),
    ("rooms:\n  hall: {height: 0}", ["2:18: 'height' must be above 0, not 0"]),
    ("rooms:\n  hall:\n    height:", ["3:5: 'height' must be a number, not null: the value is missing"]),
    ("rooms: {Hall: {height: 1}}", ["1:9: the name 'Hall' must be lower-case letters, digits and '_'"]),
    ("rooms:\n  - hall", ["2:3: 'rooms' must be a mapping, not a list; write `key: value` lines without '-'"]),
    ("rooms: {hall: {height: 1, grid: [1]}}", ["1:33: 'grid' must have 2 items, not 1"]),
    ("rooms: {hall: {height: 1, grid: [1, x]}}", ["1:37: 'grid', item 2, must be a whole number, not the text 'x'"]),
    ("rooms: {hall: {height: 1, grid: [20, 20]}}", ["1:33: 'grid': more than 100 cells"]),
    ("doors: {frnt: 1}", ["1:9: unknown key 'frnt'; did you mean 'front'?"]),
    ("open: true\nrooms: {hall: {height: 1}}", ["2:24: an open house needs a hall of 2 m"]),
    ("open: true\ncolour: green", ["2:9: an open house is red"]),
    ("colr: red\nopen: 1\nlabel: 2", [
        "1:1: unknown key 'colr'; did you mean 'colour'?",
        "2:7: 'open' must be true or false, not 1",
        "3:8: 'label' must be text, not 2; put it in quotes",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_every_error_has_its_place_and_its_words(text: str, expected: list[str]) -> None:
    assert errors(text) == expected


def test_a_union_of_plain_types_says_one_thing_at_the_value() -> None:
    assert [line.split(":")[:2] for line in errors("size: [1]")] == [["1", "7"]]


def test_a_root_that_is_a_union() -> None:
    assert errors("kind: cat\nlives: 99", Pet) == ["2:8: 'lives' must be at most 9, not 99"]
    assert errors("lives: 9", Pet) == ["1:1: missing key 'kind'; it is one of cat, dog"]
    assert errors("kind: cat\ncat: {}", Pet) == ["2:6: 'cat' must be a number, not a mapping"]


def test_what_is_valid_is_returned() -> None:
    node = parse("pet: {kind: dog, breed: pug}\nrooms: {hall: {height: 2}}", "f")
    value, found = validate(TypeAdapter(House), House, node)
    assert found == []
    assert value.pet.breed == "pug"
    assert value.rooms["hall"].height == 2.0
