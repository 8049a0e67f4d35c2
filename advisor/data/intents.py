"""The built-in texts: what people ask a device at home, eight intents, made by a grammar.

Idea: an intent has a few ways to say it, with things, places and times filled in; politeness, fillers, slips of the finger and other
spellings are added by chance. Intents share their words ("turn the alarm off" is no light), so words alone do not settle all of them.
Source: this generator. Shape: split, index → text and label; the same for every seed. Standard library and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from advisor.data.corpus import SPLITS, Corpus, Line, Split

COUNTS: Mapping[Split, int] = {"train": 1200, "val": 600, "test": 1000}
GENERATOR = 1  # its version: another one says other sentences
PARTS: Mapping[str, Sequence[str]] = {
    "room": ("kitchen", "bedroom", "bathroom", "living room", "hall", "garage", "garden", "office", "attic", "cellar"),
    "lamp": ("light", "lights", "lamp", "ceiling light", "desk lamp", "spots"),
    "warm": ("heating", "radiator", "thermostat", "air conditioning", "fan", "boiler"),
    "song": ("some jazz", "the news", "my running list", "something quiet", "that piano piece", "the radio", "an audiobook", "rock"),
    "time": ("six", "half past seven", "ten minutes", "a quarter to nine", "noon", "eight thirty", "an hour", "five o'clock", "9.15"),
    "day": ("today", "tomorrow", "on Monday", "tonight", "this weekend", "on Friday", "next week", "in the morning"),
    "town": ("Paris", "Oslo", "Lisbon", "Madrid", "Vienna", "Kyoto", "Lima", "Cairo", "Boston", "here"),
    "food": ("milk", "bread", "eggs", "rice", "two onions", "coffee", "tomatoes", "soap", "batteries", "oats"),
    "who": ("Anna", "my brother", "Mr Olsen", "the doctor", "Grandma", "Luis", "the office", "Mei", "the neighbours"),
    "what": ("the washing", "the bins", "the dentist", "my passport", "the plants", "a birthday cake", "the rent", "the meeting"),
    "much": ("up", "down", "a bit up", "a little down", "higher", "lower"),
}
WAYS: Mapping[str, Sequence[str]] = {
    "lights": (
        "turn the {lamp} in the {room} on",
        "turn off the {room} {lamp}",
        "switch the {room} {lamp} off at {time}",
        "make the {room} brighter",
        "it is too dark in the {room}",
        "dim the {lamp} in the {room}",
        "is the {lamp} in the {room} still on",
        "no {lamp} in the {room} {day}",
    ),
    "heating": (
        "turn the {warm} {much}",
        "it is too cold in the {room}",
        "switch the {warm} in the {room} off",
        "set the {room} to twenty degrees {day}",
        "make the {room} warmer",
        "is the {warm} on in the {room}",
        "turn the {warm} in the {room} on at {time}",
        "it is getting hot in the {room}",
    ),
    "music": (
        "play {song}",
        "turn {song} {much}",
        "play {song} in the {room}",
        "switch {song} off in the {room}",
        "what is playing in the {room}",
        "skip this one and play {song}",
        "it is too loud in the {room}",
        "play {song} at {time} {day}",
    ),
    "alarm": (
        "wake me at {time}",
        "set an alarm for {time} {day}",
        "turn the alarm off",
        "when does my alarm go {day}",
        "switch the alarm in the {room} on",
        "get me up at {time} {day}",
        "move the alarm to {time}",
        "no alarm {day}",
    ),
    "weather": (
        "will it rain {day}",
        "how warm is it in {town} {day}",
        "do I need a coat {day}",
        "is it cold in {town}",
        "what will the weather be {day} in {town}",
        "will it be dark at {time} in {town}",
        "how hot does it get {day}",
        "is there wind in {town} {day}",
    ),
    "shopping": (
        "put {food} on the list",
        "we need {food} and {food}",
        "is {food} on my list",
        "take {food} off the list",
        "buy {food} {day}",
        "how much {food} do we need",
        "order {food} for {day}",
        "there is no {food} in the {room}",
    ),
    "reminder": (
        "remind me of {what} {day}",
        "do not let me forget {what}",
        "tell me about {what} at {time}",
        "what was I to do {day}",
        "remind me at {time} to call {who}",
        "remind {who} of {what}",
        "remind me to buy {food} {day}",
        "I have to see to {what} {day}",
    ),
    "call": (
        "call {who}",
        "ring {who} in {town}",
        "get me {who} on the phone",
        "call {who} at {time} {day}",
        "is {who} in the {room}",
        "tell {who} that I am late",
        "phone {who} about {what}",
        "ask {who} to buy {food}",
    ),
}
BEFORE = ("", "", "", "please ", "hey, ", "could you please: ", "ok ", "um, ", "quick, ", "Hello! ", "well ")
AFTER = ("", "", "", " please", " now", ", thanks", " if you can", "?", ".", "!", " - thank you")
SLIPS = 1.5  # of the finger, in the mean a text


def sentence(split: Split, index: int, again: int = 0) -> tuple[str, str]:
    """(text, label) number `index` of `split`; `again`: another one, where this one was said already."""
    rng = np.random.default_rng([GENERATOR, 3, SPLITS.index(split), index, again])
    label = list(WAYS)[index % len(WAYS)]
    text = str(rng.choice(WAYS[label]))
    while "{" in text:
        part = text[text.index("{") + 1 : text.index("}")]
        text = text.replace("{" + part + "}", str(rng.choice(PARTS[part])), 1)
    text = str(rng.choice(BEFORE)) + text + str(rng.choice(AFTER))
    for _ in range(int(rng.poisson(SLIPS))):
        text = _slipped(text, rng)
    return text, label


def _slipped(text: str, rng: np.random.Generator) -> str:
    """The text with one letter twice, gone, or changed with its neighbour."""
    place, kind = int(rng.integers(0, len(text) - 1)), int(rng.integers(0, 3))
    one, two = text[place], text[place + 1]
    return text[:place] + (one + one + two, two, two + one)[kind] + text[place + 2 :]


def corpus(counts: Mapping[Split, int], *, seed: int) -> Corpus:
    """The built-in texts, `counts` a split, no text twice. They are the same for every seed."""
    said: set[str] = set()
    made = {split: [_new(split, index, said) for index in range(counts[split])] for split in SPLITS}
    lines = {split: tuple(_line(split, index, label) for index, (_, label) in enumerate(made[split])) for split in SPLITS}
    texts = {_id(split, index): text for split in SPLITS for index, (text, _) in enumerate(made[split])}
    facts = {
        "source": f"sentences made by a grammar, generator {GENERATOR} of this package",
        "licence": "Apache-2.0, as this package",
        "split": "by sentence; the ways to say an intent are in every split",
        "generated": "nobody said them: what is reached on them says nothing about what people say",
        "seed": seed,
    }
    return Corpus(lines, lambda line: texts[line.id].encode(), facts)


def _new(split: Split, index: int, said: set[str]) -> tuple[str, str]:
    """A sentence that was not said yet; where the grammar runs dry, one that was."""
    for again in range(50):
        text, label = sentence(split, index, again)
        if text not in said:
            break
    said.add(text)
    return text, label


def _id(split: Split, index: int) -> str:
    return f"{split}/{index:05d}"


def _line(split: Split, index: int, label: str) -> Line:
    return Line(_id(split, index), label, f"built-in sentences, {split} {index}")
