r"""The variables of a server: logical devices (MMS domains), their nodes, components and encoded values.

All devices with the same nodes share one :class:`DeviceSchema`; a :class:`Device` is one flat list of octets. In
it stands, depth first, every leaf's encoded value and, in front of the components of every structure, its tag and
length. So what a component reads as is a slice, joined, at whatever depth::

    values = [... b"\xa2\x18", b"\xa2\x07", mag.f, q, t ...]      # MMXN1$MX$Watt

A write that changes the length of a value mends the headers in front of it; few do.

What a client writes goes to the :class:`Writer` of the component or the nearest one above it, and is denied where
there is none. Control blocks and controls put theirs there (``device.writers``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flexmap.mms import ber, data
from flexmap.mms.data import DataAccessError
from flexmap.mms.types import Array, Leaf, Structure, Type

if TYPE_CHECKING:
    from flexmap.mms.association import Association


class Component:
    """A place in a logical node: the node itself, a functional constraint, a data object, an attribute."""

    __slots__ = ("children", "name", "parent", "start", "stop", "type")

    def __init__(self, name: str, kind: Type, parent: Component | None, start: int) -> None:
        self.name = name
        self.type = kind
        self.parent = parent
        self.start = start
        """Position of its header, or of its value, among the node's."""
        self.stop = start + 1
        self.children: tuple[Component, ...] = ()

    @property
    def path(self) -> tuple[str, ...]:
        """Names from the functional constraint down to this component."""
        names: list[str] = []
        component: Component | None = self
        while component is not None and component.parent is not None:
            names.append(component.name)
            component = component.parent
        return tuple(reversed(names))

    def child(self, name: str) -> Component | None:
        """Return a component of this one by name."""
        for child in self.children:
            if child.name == name:
                return child
        return None


class NodeSchema:
    """The layout of a logical node; shared by all nodes of a type."""

    def __init__(self, kind: Structure) -> None:
        self.root = Component("", kind, None, 0)
        self.template: list[bytes] = []
        """Values at first, headers included."""
        self.parents: list[int] = []
        """Position of the header in front of each position; the root's own is -1."""
        self.paths: dict[str, Component] = {}
        """Components by the part of their MMS name behind the node's: ``MX$Watt$mag``; elements have none."""
        self.leaves: list[Leaf | None] = []
        """The type at each position, None at a header."""
        self._lay(self.root, -1, "", named=True)

    def _lay(self, component: Component, parent: int, path: str, *, named: bool) -> None:
        kind, start = component.type, len(self.template)
        component.start = start
        self.parents.append(parent)
        if named:
            self.paths[path] = component
        if isinstance(kind, Leaf):
            self.template.append(kind.initial)
            self.leaves.append(kind)
            component.stop = start + 1
            return
        self.template.append(b"")
        self.leaves.append(None)
        if isinstance(kind, Structure):
            fields: Sequence[tuple[str, Type]] = kind.components
        else:
            fields = [(str(index), kind.element) for index in range(kind.count)]
        inside = named and isinstance(kind, Structure)
        children = []
        for name, inner in fields:
            child = Component(name, inner, component, 0)
            self._lay(child, start, f"{path}${name}" if path else name, named=inside)
            children.append(child)
        component.children = tuple(children)
        component.stop = len(self.template)
        size = sum(map(len, self.template[start + 1 :]))
        self.template[start] = ber.header(data.ARRAY if isinstance(kind, Array) else data.STRUCTURE, size)

    def seal(self, values: list[bytes]) -> None:
        """Write the headers of a node's values anew: what many changed values cost least."""
        sizes = [0] * len(values)
        for position in range(len(values) - 1, -1, -1):
            if self.leaves[position] is None:
                values[position] = ber.header(values[position][0], sizes[position])
                sizes[position] += len(values[position])
            else:
                sizes[position] = len(values[position])
            if position:
                sizes[self.parents[position]] += sizes[position]


class Place(NamedTuple):
    """A node's layout in a device: from which position on it stands."""

    offset: int
    schema: NodeSchema


class DeviceSchema:
    """The layout of a logical device; shared by all devices with the same nodes."""

    def __init__(self, nodes: Iterable[tuple[str, NodeSchema]]) -> None:
        self.nodes: dict[str, Place] = {}
        self.template: list[bytes] = []
        self.parents: list[int] = []
        self.leaves: list[Leaf | None] = []
        names: list[str] = []
        for name, schema in nodes:
            offset = len(self.template)
            self.nodes[name] = Place(offset, schema)
            self.template += schema.template
            self.parents += [parent + offset if parent >= 0 else -1 for parent in schema.parents]
            self.leaves += schema.leaves
            names += [f"{name}${path}" if path else name for path in schema.paths]
        self.names = Names(names)
        """MMS names of all variables."""

    def find(self, item: str) -> tuple[Place, Component] | None:
        """Return the place of a variable by its MMS name: ``MMXN1$MX$Watt``."""
        name, dollar, path = item.partition("$")
        place = self.nodes.get(name)
        component = None if place is None or (dollar and not path) else place.schema.paths.get(path)
        return None if place is None or component is None else (place, component)


class Names:
    """Names in their order, each also as an encoded Identifier: what a name list is made of."""

    __slots__ = ("encoded", "names")

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self.encoded = [ber.tlv(0x1A, name.encode()) for name in self.names]


Change = tuple[int, int]
"""A position whose value is another one now, and why: :data:`DATA_CHANGE` or :data:`QUALITY_CHANGE`."""
DATA_CHANGE, QUALITY_CHANGE, DATA_UPDATE = 1, 2, 4
"""As trigger options have them."""


class Variable(NamedTuple):
    """A component of one device, found by its name."""

    device: Device
    offset: int
    component: Component

    @property
    def start(self) -> int:
        """First position among the device's values."""
        return self.offset + self.component.start

    @property
    def stop(self) -> int:
        """Position behind the last one."""
        return self.offset + self.component.stop

    def encoded(self) -> bytes:
        """Return the value."""
        return b"".join(self.device.values[self.start : self.stop])


class Pending:
    """A write's outcome that is still to come: the response goes out when :meth:`answer` is called.

    A writer returns one and keeps it; it must call :meth:`answer` in the end. After ``cancelled`` (the client went
    away, or cancelled its request) an answer goes nowhere.
    """

    __slots__ = ("_then", "answered", "cancelled", "outcome")

    def __init__(self) -> None:
        self.answered = False
        self.outcome: DataAccessError | None = None
        self.cancelled = False
        self._then: Callable[[DataAccessError | None], None] | None = None

    def answer(self, outcome: DataAccessError | None = None) -> None:
        """Give the outcome, None for success; only the first one counts."""
        if self.answered:
            return
        self.answered, self.outcome = True, outcome
        if self._then is not None and not self.cancelled:
            self._then(outcome)

    def then(self, receiver: Callable[[DataAccessError | None], None]) -> None:
        """Name who is told; at once if the outcome is there already."""
        if self.answered:
            receiver(self.outcome)
        else:
            self._then = receiver


Outcome = DataAccessError | Pending | None
"""Of a write: why not, later, or done."""


class Writer(Protocol):
    """Takes what clients write into a component, or into anything below it."""

    def write(self, association: Association, variable: Variable, value: bytes) -> Outcome:
        """Take an encoded value that is of the variable's type."""


class Reader(Protocol):
    """Answers reads of one component with more than a look-up: SBO is a selection."""

    def read(self, association: Association, variable: Variable) -> bytes | DataAccessError:
        """Return the encoded value."""


class VariableList(NamedTuple):
    """A named variable list: a data set."""

    members: tuple[tuple[str | None, str], ...]
    """Domain (None: the list's own) and item of each member."""
    deletable: bool = False


class Device:
    """A logical device: its values, what takes writes, its data sets and journals."""

    __slots__ = ("journals", "lists", "name", "readers", "schema", "values", "writers")

    def __init__(self, name: str, schema: DeviceSchema, values: list[bytes] | None = None) -> None:
        """Make a device; ``values`` is its own list from then on, the schema's at first if left out."""
        self.name = name
        """MMS domain: IED name and logical device name."""
        self.schema = schema
        self.values = schema.template.copy() if values is None else values
        self.writers: dict[int, Writer] = {}
        """By position."""
        self.readers: dict[int, Reader] = {}
        self.lists: dict[str, VariableList] = {}
        """Data sets by item: ``LLN0$Meas``."""
        self.journals: tuple[str, ...] = ()

    def find(self, item: str) -> Variable | None:
        """Return a variable by its MMS name within the device."""
        found = self.schema.find(item)
        return None if found is None else Variable(self, found[0].offset, found[1])

    def set(self, position: int, value: bytes) -> bool:
        """Put an encoded value in its place; tell whether it is another one than before."""
        values = self.values
        old = values[position]
        if value == old:
            return False
        values[position] = value
        if len(value) != len(old):
            self._mend(position, len(value) - len(old))
        return True

    def _mend(self, position: int, growth: int) -> None:
        """Mend the lengths in the headers in front of a value that has grown."""
        values, parents = self.values, self.schema.parents
        position = parents[position]
        while position >= 0:
            header = values[position]
            size = header[1] if header[1] < 0x80 else int.from_bytes(header[2:], "big")
            values[position] = ber.header(header[0], size + growth)
            growth += len(values[position]) - len(header)
            position = parents[position]

    def writer(self, variable: Variable) -> Writer | None:
        """Return what takes writes of a variable."""
        component: Component | None = variable.component
        while component is not None:
            found = self.writers.get(variable.offset + component.start)
            if found is not None:
                return found
            component = component.parent
        return None

    def has_readers(self, variable: Variable) -> bool:
        """Tell whether a read of this very component is more than a look-up."""
        return bool(self.readers) and variable.start in self.readers


class Variables:
    """All logical devices of a server, and the data sets that belong to none of them."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self.devices = {device.name: device for device in devices}
        self.domains = Names(self.devices)
        self.lists: dict[str, VariableList] = {}
        """VMD-specific data sets."""
        self.epoch = 0
        """Grows whenever a data set is defined or deleted: what was looked up before may be gone."""

    def find(self, domain: str, item: str) -> Variable | None:
        """Return a variable."""
        device = self.devices.get(domain)
        return None if device is None else device.find(item)
