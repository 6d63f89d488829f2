"""The page ``docs/objects.md``: every COSEM object of the meter types and of the management logical device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flexmap.dlms.class_names import CLASSES
from flexmap.faces.dlms.listing import CLIENTS, ListedObject, access_text

_HEAD = """\
# COSEM objects

Made by `flexmap dlms objects --markdown`; `flexmap dlms objects single-phase` prints every attribute of one meter
type with its type, its access and its IEC 61850 name, `--json` for programs, and
`flexmap dlms objects METER --config CONFIG.toml` a configured meter. What the objects do: [dlms.md](dlms.md).

Access by what the configuration lets a client do (`public`, `read`, `manage`): r reads, w writes, x calls, with
the numbers of attributes or methods; * stands where the requests must be protected ([dlms.md](dlms.md#rights)).
"""


def page(lists: Mapping[str, Sequence[ListedObject]], titles: Mapping[str, str]) -> str:
    """Return the page of these object lists by name, each under its title."""
    parts = [_HEAD]
    for name, objects in lists.items():
        head = ("OBIS", "class", "type", *(f"`{client}`" for client in CLIENTS), "IEC 61850", "")
        rows = [
            (
                f"`{each.obis}`",
                f"{each.class_id} {each.class_name}, version {each.version}",
                _type(each),
                *(access_text(each, client) for client in CLIENTS),
                f"`{each.iec61850}`" if each.iec61850 else "",
                each.title,
            )
            for each in objects
        ]
        parts.append(f"\n## {titles[name]} (`{name}`)\n\n{_table(head, rows)}")
    served = sorted({each.class_id for objects in lists.values() for each in objects})
    table = _table(("class", "attributes", "methods"), _classes(served))
    parts.append(f"\n## Attributes and methods of the classes\n\n{table}")
    return "".join(parts)


def _type(listed: ListedObject) -> str:
    return next(item.type for item in listed.attributes if item.index == 2)


def _classes(numbers: Iterable[int]) -> list[tuple[str, ...]]:
    return [
        (
            f"{number} {CLASSES[number].title}",
            "; ".join(
                f"{index} {name}: {kind}"
                for index, (name, kind) in CLASSES[number].attributes.items()
                if index > 1
            ),
            "; ".join(f"{index} {name}" for index, name in CLASSES[number].methods.items()),
        )
        for number in numbers
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
