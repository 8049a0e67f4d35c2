"""What is wrong with facts: cells without evidence, figures that no unit allows, sources nobody cites, gaps in licences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from rules.bounds import FRACTION, GAIN, LIKELY_RAM, LIKELY_RATE, LIMIT, MACS, PARAMS, UNIT, Bounds, outside, said
from rules.facts import Card, Cell, Device, Facts, Rule, TaskRow
from rules.finding import Finding
from rules.knowledge import HERE_DEVICE, Knowledge, load
from rules.overlap import alternatives, makers_of, possible
from rules.tables import read_toml

UNSTATED = {"", "unknown", "?", "tbd", "todo", "unclear", "n/a", "na"}  # nobody looked
SILENT = {"not stated", "none stated", "depends on the toolkit", "none published"}  # somebody looked, and there is none
PERMISSIVE = {  # what a permissive request may be given, code or weights (the Open Source Initiative's permissive ones, and CC's)
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "0bsd", "cc0-1.0", "cc-by-4.0", "cc-by-3.0"),
    *("public domain", "trained by you"),
}
NONCOMMERCIAL = re.compile(r"(?:^|[^a-z])nc(?:[^a-z]|$)|non-?commercial|research only|academic", re.IGNORECASE)


COUNTED_WITHIN = 0.02  # of what is published


def findings(known: Knowledge) -> list[Finding]:
    """All findings over cards, cells, devices, thresholds and sources."""
    parts: list[Iterable[Finding]] = [dead_sources(known)]
    for name, card in known.cards.items():
        parts += [_figures(card, known.cards.where(name)), _licences(card, known.cards.where(name))]
    for name, device in known.devices.items():
        parts.append(_device(device, known.devices.where(name)))
    for name, row in known.tasks.items():
        where = known.tasks.where(name)
        parts += [_cell(cell, known.cards[cell.architecture], where) for cell in row.cells]
        parts += [_defaults(row, where), *(_thresholds(rule) for rule in row.rules)]
    parts += [_thresholds(rule) for rule in known.rules]
    parts += [_names(rule, known) for rule in _all_rules(known)]
    parts += [_copyleft(known), _foreign_builders(known)]
    return list(chain.from_iterable(parts))


def _all_rules(known: Knowledge) -> list[Rule]:
    return [*known.rules, *(rule for row in known.tasks.values() for rule in row.rules)]


# -- evidence ---------------------------------------------------------------------------------------------------------------


def _cell(cell: Cell, card: Card, where: str) -> Iterator[Finding]:
    """A cell rests on figures: some on its card, and best one from the source that it names."""
    key = f"cell {cell.architecture}" + (f"/{cell.variant}" if cell.variant else "")
    counted = [variant.source for variant in card.variants if variant.params or variant.macs]
    if not card.evidence and not counted:
        yield Finding(
            where, key, "there is no figure behind it: its card has neither evidence nor counts", "warning", "[[evidence]] on the card"
        )
    elif not card.evidence:
        yield Finding(where, key, "its card has counts and no evidence of how well it does", "note", "[[evidence]] on the card")
    elif cell.source not in {item.source for item in card.evidence} | set(counted) | {card.source}:
        yield Finding(
            where, key, f"no figure on its card comes from {cell.source!r}, which it names", "note", "the reason may be an argument"
        )


def _figures(card: Card, where: str) -> Iterator[Finding]:
    for item in card.evidence:
        key = f"evidence {item.what!r}"
        if item.unit not in UNIT:
            yield Finding(where, key, f"nothing is known of the unit {item.unit!r}", "note", f"known: {', '.join(UNIT)}")
        elif outside(item.value, UNIT[item.unit]):
            yield _out(where, key, f"value {item.value:g} {item.unit}", UNIT[item.unit])
    for variant in card.variants:
        for name, bounds in (("params", PARAMS), ("macs", MACS)):
            if outside(getattr(variant, name), bounds):
                yield _out(where, f"variant {variant.name!r}", f"{name} {getattr(variant, name):g}", bounds)
            said = getattr(variant.published, name, 0)
            if said and abs(getattr(variant, name) - said) > COUNTED_WITHIN * said:
                text = f"{name} {getattr(variant, name):,} is more than 2 % off the {said:,} of {variant.published.source}"  # type: ignore[union-attr]
                yield Finding(where, f"variant {variant.name!r}", text, "warning", "one of them is another net")
        if not variant.source and card.status != "reference":
            yield Finding(where, f"variant {variant.name!r}", "its counts name no source", "warning", 'source = "…"')


def _out(where: str, key: str, value: str, bounds: Bounds) -> Finding:
    return Finding(where, key, f"{value} is outside {said(bounds)}", "warning", "is it in the unit that is named?")


def _foreign_builders(known: Knowledge) -> Iterator[Finding]:
    """Cards of a user's folder whose builder is none of ours: recommended as any other, and refused by `advisor run`."""
    ours = {card.builds for card in load().cards.values()} if known.folders[1:] else set()
    for name, card in known.cards.items() if ours else ():
        if card.builds and card.builds not in ours:
            what = f"{card.builds!r} is none of the builders shipped here: it is never imported, and advisor run refuses it"
            yield Finding(
                known.cards.where(name), "builds", what, "note", "advisor compress package.module:function takes a module of your own"
            )


def _device(device: Device, where: str) -> Iterator[Finding]:
    if outside(device.ram_bytes, LIKELY_RAM[device.kind]):
        yield _out(where, "ram_bytes", f"{device.ram_bytes:g}, for a device of kind {device.kind},", LIKELY_RAM[device.kind])
    for name, rate in device.rates.items():
        bounds = LIKELY_RATE[device.kind].get(name)
        if bounds and outside(rate.value, bounds):
            yield _out(where, f"rates.{name}", f"{rate.value:g} {rate.unit}, for a device of kind {device.kind},", bounds)
    for name, bounds in GAIN.items():
        if (
            name in device.rates
            and "fp32" in device.rates
            and outside(gain := device.rates[name].value / device.rates["fp32"].value, bounds)
        ):
            yield _out(where, f"rates.{name}", f"{gain:.3g} times the rate of fp32", bounds)
    for precision in device.precisions:
        if precision in ("fp32", "fp16", "int8") and device.rates and precision not in device.rates:
            yield Finding(
                where,
                f"rates.{precision}",
                f"it computes in {precision} and has no rate for it",
                "warning",
                "no latency is predicted without",
            )


def _defaults(row: TaskRow, where: str) -> Iterator[Finding]:
    for name, value in row.defaults.items():
        bounds = LIMIT.get(f"request.{name}")
        if bounds and isinstance(value, int | float) and outside(value, bounds):
            yield _out(where, f"defaults.{name}", f"{value:g}", bounds)


def _thresholds(rule: Rule) -> Iterator[Finding]:
    """Thresholds and settings in a unit that cannot be meant."""
    for condition in (*rule.when.all, *rule.when.any, *rule.when.none):
        bounds, value = LIMIT.get(condition.fact), condition.value
        if bounds and isinstance(value, int | float) and not isinstance(value, bool) and outside(value, bounds):
            yield _out(rule.origin, f"rule {rule.id!r}", f"{condition.fact} {condition.op} {value:g}", bounds)
    for key, value in rule.then.set.items():
        share = key.endswith(("max_drop", "_ratio"))
        if share and isinstance(value, int | float) and outside(value, FRACTION):
            yield _out(rule.origin, f"rule {rule.id!r}", f"{key} {value:g}", FRACTION)


def _names(rule: Rule, known: Knowledge) -> Iterator[Finding]:
    """Tasks, architectures and devices that conditions name and nobody knows."""
    devices = {*known.devices, HERE_DEVICE}
    lists = {"request.task": set(known.tasks), "card.name": set(known.cards), "request.device": devices, "device.name": devices}
    for condition in (*rule.when.all, *rule.when.any, *rule.when.none):
        names = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        for name in names if condition.fact in lists and condition.value is not None else ():
            if name not in lists[condition.fact]:
                yield Finding(
                    rule.origin,
                    f"rule {rule.id!r}",
                    f"{condition.fact} names {name!r}, which is not known",
                    "warning",
                    "is it spelled as its file is called?",
                )


# -- sources -----------------------------------------------------------------------------------------------------------------


def dead_sources(known: Knowledge) -> Iterator[Finding]:
    """Sources that are written down and that no file cites."""
    cited = {
        name
        for folder in known.folders
        for path in folder.rglob("*.toml")
        if path.name != "sources.toml"
        for name in _cited(read_toml(path).values())
    }
    for name in known.sources:
        if name not in cited:
            yield Finding(known.source_files[name], f"source {name!r}", "nothing cites it", "warning", "cite it or take it out")


def _cited(value: object) -> Iterator[str]:
    """Every text under a key `source` or `sources`, however deep."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("source", "sources"):
                yield from (
                    [item] if isinstance(item, str) else [one for one in item if isinstance(one, str)] if isinstance(item, list) else []
                )
            yield from _cited(item)
    elif isinstance(value, list):
        for item in value:
            yield from _cited(item)


# -- licences ----------------------------------------------------------------------------------------------------------------


def _licences(card: Card, where: str) -> Iterator[Finding]:
    for key, text in (("licence_code", card.licence_code), ("licence_weights", card.licence_weights)):
        if text.strip().lower() in UNSTATED:
            yield Finding(where, key, f"{text!r} is no licence", "warning", 'its name as SPDX spells it, "not stated", or "trained by you"')
        elif text.strip().lower() in SILENT - {"none published"}:
            yield Finding(where, key, f"{text!r}: nobody may rely on it", "note", "ask its authors; the rules warn of it")
        if card.status != "reference" and NONCOMMERCIAL.search(text) and card.traits.get("noncommercial") is not True:
            yield Finding(
                where, key, f"{text!r} is not for commercial use, and the card does not say so", "warning", "[traits] noncommercial = true"
            )


def _copyleft(known: Knowledge) -> Iterator[Finding]:
    """Licences that are not permissive, and that no rule refuses or warns of where only permissive ones are asked for."""
    makers = makers_of(_all_rules(known))
    telling = [rule for rule in known.rules if rule.then.forbid or rule.then.warn]
    ways = [
        way for rule in telling for way in alternatives(rule, makers) if any(condition.fact == "request.licence" for condition, _ in way)
    ]
    for name, card in known.cards.items():
        for key, text in (("licence_code", card.licence_code), ("licence_weights", card.licence_weights)):
            if _is_permissive(text) or text.strip().lower() in UNSTATED:
                continue
            facts: Facts = {f"card.{key}": text, "card.noncommercial": card.traits.get("noncommercial")}
            mine = [[literal for literal in way if literal[0].fact in facts] for way in ways]
            if not any(way and possible(tuple(way), facts) for way in mine):
                yield Finding(
                    known.cards.where(name),
                    key,
                    f"{text!r} is not known to be permissive, and no rule says so to who asks for that",
                    "warning",
                    "the rules licence.code and licence.weights list what is not",
                )


def _is_permissive(text: str) -> bool:
    """Whether each of the licences named is permissive: "Apache-2.0 and MIT", "MIT (code), CC-BY-4.0 (data)"."""
    parts: Sequence[str] = [part.strip().lower() for part in re.split(r"\band\b|,|;|/|\(.*?\)", text) if part.strip()]
    return all(part in PERMISSIVE or part == "none published" for part in parts)
