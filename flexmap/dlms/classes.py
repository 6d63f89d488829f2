"""Builders of the interface classes that flexmap serves (IEC 62056-6-2), and encoders of their attributes.

Each builder returns an ObjectDefinition. What is the same for all meters of a schema stands in the definition;
what a meter has of its own is a slot, named in the builder's docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flexmap.dlms import axdr, cosem_time, security
from flexmap.dlms.apdu import DLMS_VERSION
from flexmap.dlms.objects import (
    ASSOCIATION_LN,
    AssociationContext,
    Attribute,
    Method,
    ObjectDefinition,
)
from flexmap.dlms.profile import AUTHENTICATED, EVERYONE, Role
from flexmap.dlms.selection import BY_ENTRY, BY_RANGE, OBJECT_SELECTORS, CaptureObject

DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, PROFILE_GENERIC, CLOCK = 1, 3, 4, 5, 7, 8
ASSOCIATION, SAP_ASSIGNMENT, COMPACT_DATA, SECURITY_SETUP, DISCONNECT_CONTROL = 15, 17, 62, 64, 70

CLOCK_LN = bytes((0, 0, 1, 0, 0, 255))
SAP_ASSIGNMENT_LN = bytes((0, 0, 41, 0, 0, 255))
LOGICAL_DEVICE_NAME_LN = bytes((0, 0, 42, 0, 0, 255))
SECURITY_SETUP_LN = bytes((0, 0, 43, 0, 0, 255))

REMOTE_DISCONNECT, REMOTE_RECONNECT = 1, 2
"""Methods of Disconnect control."""
CONTROL_MODE = 4
"""Attribute of Disconnect control."""
TEMPLATE_ID = 4
"""Attribute of Compact data."""
DISCONNECTED, CONNECTED, READY_FOR_RECONNECTION = 0, 1, 2
"""States of Disconnect control."""


# --- values -----------------------------------------------------------------------------------------------


def scaler_unit(scaler: int, unit: int) -> bytes:
    """Return scal_unit_type: value = raw × 10^scaler unit."""
    return axdr.structure(axdr.encode("integer", scaler), axdr.encode("enum", unit))


def time_value(epoch_ms: int, deviation: int = 0, status: int = 0) -> bytes:
    """Return a date-time as octet-string, as Clock and capture_time have it."""
    return b"\x09\x0c" + cosem_time.encode(epoch_ms, deviation, status)


def sap_list(devices: Iterable[tuple[int, bytes]]) -> bytes:
    """Return SAP_assignment_list of server SAPs and logical device names."""
    return axdr.array(
        [axdr.structure(axdr.encode("long-unsigned", sap), axdr.octet_string(name)) for sap, name in devices]
    )


def capture_objects(columns: Sequence[CaptureObject]) -> bytes:
    """Return the capture_objects of a profile."""
    return axdr.array([column.encode() for column in columns])


# --- objects ----------------------------------------------------------------------------------------------


def data(logical_name: bytes, *, read: Role = AUTHENTICATED, write: Role = Role.NOBODY) -> ObjectDefinition:
    """Return a Data object (class 1). Slot: 2 value."""
    return ObjectDefinition(DATA, 0, logical_name, (Attribute(2, read, write),))


def register(
    logical_name: bytes, scaler: int, unit: int, *, read: Role = AUTHENTICATED, write: Role = Role.NOBODY
) -> ObjectDefinition:
    """Return a Register (class 3). Slot: 2 value."""
    attributes = (Attribute(2, read, write), Attribute(3, read, value=scaler_unit(scaler, unit)))
    return ObjectDefinition(REGISTER, 0, logical_name, attributes)


def extended_register(
    logical_name: bytes, scaler: int, unit: int, *, read: Role = AUTHENTICATED, reset: bool = False
) -> ObjectDefinition:
    """Return an Extended register (class 4). Slots: 2 value, 4 status, 5 capture_time. Method, by choice: 1 reset.

    A client that takes it for a Register reads its attributes 1 to 3 as such.
    """
    attributes = (
        Attribute(2, read),
        Attribute(3, read, value=scaler_unit(scaler, unit)),
        Attribute(4, read),
        Attribute(5, read),
    )
    return ObjectDefinition(EXTENDED_REGISTER, 0, logical_name, attributes, (Method(1),) if reset else ())


def demand_register(
    logical_name: bytes,
    scaler: int,
    unit: int,
    *,
    period: int,
    number_of_periods: int,
    read: Role = AUTHENTICATED,
) -> ObjectDefinition:
    """Return a Demand register (class 5). Method: 1 reset.

    Slots: 2 current_average_value, 3 last_average_value, 5 status, 6 capture_time, 7 start_time_current.
    ``period`` in seconds.
    """
    attributes = (
        Attribute(2, read),
        Attribute(3, read),
        Attribute(4, read, value=scaler_unit(scaler, unit)),
        Attribute(5, read),
        Attribute(6, read),
        Attribute(7, read),
        Attribute(8, read, value=axdr.encode("double-long-unsigned", period)),
        Attribute(9, read, value=axdr.encode("long-unsigned", number_of_periods)),
    )
    return ObjectDefinition(DEMAND_REGISTER, 0, logical_name, attributes, (Method(1),))


def profile_generic(
    logical_name: bytes,
    columns: Sequence[CaptureObject],
    *,
    capture_period: int,
    entries: int,
    read: Role = AUTHENTICATED,
    capture: bool = False,
    changeable: bool = False,
) -> ObjectDefinition:
    """Return a Profile generic (class 7), oldest row first. Slots: 2 buffer (a RowSource), 7 entries_in_use.

    ``capture_period`` in seconds, 0 for an event log; ``entries`` the most rows kept. Sort method FIFO, so without
    a sort object. Method, by choice: 2 capture. One that is changeable has 3 capture_objects, 4 capture_period and
    8 profile_entries in slots too, the first two to be written, and methods 1 reset and 2 capture.
    """
    change = Role.MANAGEMENT if changeable else Role.NOBODY
    fixed = {
        3: capture_objects(columns),
        4: axdr.encode("double-long-unsigned", capture_period),
        8: axdr.encode("double-long-unsigned", entries),
    }
    values = {index: None if changeable else each for index, each in fixed.items()}
    methods = (Method(1), Method(2)) if changeable else (Method(2),) if capture else ()
    attributes = (
        Attribute(2, read, selectors=(BY_RANGE, BY_ENTRY)),
        Attribute(3, read, change, value=values[3]),
        Attribute(4, read, change, value=values[4]),
        Attribute(5, read, value=axdr.encode("enum", 1)),
        Attribute(6, read, value=CaptureObject(0, bytes(6), 0).encode()),
        Attribute(7, read),
        Attribute(8, read, value=values[8]),
    )
    return ObjectDefinition(PROFILE_GENERIC, 1, logical_name, attributes, methods)


def compact_data(
    logical_name: bytes, template_id: int, columns: Sequence[CaptureObject], types: Sequence[axdr.Tag]
) -> ObjectDefinition:
    """Return a Compact data (class 62 version 1). Slot: 2 compact_buffer. Methods: 1 reset, 2 capture.

    ``types``: those of the columns' values, which have no elements of their own. The template_id stands before all
    columns, as the class asks; it is captured by its method, not by reading.
    """
    own = CaptureObject(COMPACT_DATA, logical_name, TEMPLATE_ID)
    unrestricted = axdr.structure(axdr.encode("enum", 0), axdr.NULL)
    objects = [axdr.structure(*axdr.elements_of(each.encode()), unrestricted) for each in (own, *columns)]
    template = axdr.structure_head(len(objects)) + bytes((axdr.Tag.UNSIGNED, *types))
    attributes = (
        Attribute(2),
        Attribute(3, value=axdr.array(objects)),
        Attribute(TEMPLATE_ID, value=axdr.encode("unsigned", template_id)),
        Attribute(5, value=axdr.octet_string(template)),
        Attribute(6, value=axdr.encode("enum", 0)),
    )
    return ObjectDefinition(COMPACT_DATA, 1, logical_name, attributes, (Method(1), Method(2)))


def clock(
    logical_name: bytes = CLOCK_LN,
    *,
    time_zone: int | None = 0,
    read: Role = EVERYONE,
    settable: bool = False,
) -> ObjectDefinition:
    """Return a Clock (class 8). Slots: 2 time (best a callable), 4 status; without a time zone 3 and 5 to 8 too.

    ``time_zone``: minutes from local normal time to UTC, without daylight saving. Methods, where it is settable:
    1 to 6.
    """
    unspecified = axdr.octet_string(cosem_time.NOT_SPECIFIED)
    fixed = {
        3: axdr.encode("long", time_zone or 0),
        5: unspecified,
        6: unspecified,
        7: axdr.encode("integer", 0),
        8: axdr.encode("boolean", False),
    }
    zone = {
        index: Attribute(index, read, value=None if time_zone is None else each) for index, each in fixed.items()
    }
    attributes = (
        Attribute(2, read, Role.MANAGEMENT if settable else Role.NOBODY),
        zone[3],
        Attribute(4, read),
        *(zone[index] for index in (5, 6, 7, 8)),
        Attribute(9, read, value=axdr.encode("enum", 1)),
    )
    methods = tuple(Method(index) for index in range(1, 7)) if settable else ()
    return ObjectDefinition(CLOCK, 0, logical_name, attributes, methods)


def disconnect_control(
    logical_name: bytes, *, read: Role = AUTHENTICATED, manage: Role = Role.MANAGEMENT
) -> ObjectDefinition:
    """Return a Disconnect control (class 70). Slots: 2 output_state, 3 control_state, 4 control_mode."""
    attributes = (Attribute(2, read), Attribute(3, read), Attribute(CONTROL_MODE, read, manage))
    methods = (Method(REMOTE_DISCONNECT, manage), Method(REMOTE_RECONNECT, manage))
    return ObjectDefinition(DISCONNECT_CONTROL, 0, logical_name, attributes, methods)


def sap_assignment(*, read: Role = AUTHENTICATED) -> ObjectDefinition:
    """Return the SAP assignment (class 17). Slot: 2 SAP_assignment_list (:func:`sap_list`)."""
    return ObjectDefinition(SAP_ASSIGNMENT, 0, SAP_ASSIGNMENT_LN, (Attribute(2, read),))


def security_setup(client: int = 0, *, read: Role = AUTHENTICATED) -> ObjectDefinition:
    """Return a Security setup (class 64 version 1): of one client's SAP, ``0-0:43.0.n``, or of whoever reads it.

    All of it is computed, no slots. Its methods ask for authenticated requests, those that move keys for encrypted
    ones too.
    """

    def value(index: int) -> Callable[[AssociationContext], bytes]:
        def computed(context: AssociationContext) -> bytes:
            setups = context.security
            return axdr.NULL if setups is None else setups.attribute(client or context.client_sap, index)

        return computed

    attributes = tuple(Attribute(index, read, value=value(index)) for index in (3, 4, 5, 6))
    policy = Attribute(2, read, value=_security_policy if client == 0 else value(2))
    methods = tuple(
        Method(index, protection=security.AUTHENTICATED_ENCRYPTED if index in (2, 3) else security.AUTHENTICATED)
        for index in range(1, 9)
    )
    name = bytes((0, 0, 43, 0, client, 255))
    return ObjectDefinition(SECURITY_SETUP, 1, name, (policy, *attributes), methods)


def association_ln(version: int = 1, *, read: Role = EVERYONE) -> ObjectDefinition:
    """Return the current association (class 15 version 1 to 3): all of it computed, no slots.

    The secret cannot be read; methods 1 reply_to_HLS_authentication and 2 change_HLS_secret are the association's
    own. From version 2 on it has a list of users, which is empty; from version 3 on access modes are bits.
    """
    attributes = [
        Attribute(2, read, value=_object_list, selectors=OBJECT_SELECTORS),
        Attribute(3, read, value=_partners),
        Attribute(4, read, value=_context_name),
        Attribute(5, read, value=_xdlms_context),
        Attribute(6, read, value=_mechanism_name),
        Attribute(7, Role.NOBODY, value=axdr.NULL),
        Attribute(8, read, value=_status),
        Attribute(9, read, value=axdr.octet_string(SECURITY_SETUP_LN)),
    ]
    if version >= 2:
        user = axdr.structure(axdr.encode("unsigned", 0), axdr.encode("visible-string", ""))
        attributes += (Attribute(10, read, value=axdr.array([])), Attribute(11, read, value=user))
    methods = (Method(1, AUTHENTICATED), Method(2, protection=security.AUTHENTICATED_ENCRYPTED))
    return ObjectDefinition(ASSOCIATION, version, ASSOCIATION_LN, tuple(attributes), methods)


def _object_list(context: AssociationContext) -> bytes:
    return context.object_list


def _partners(context: AssociationContext) -> bytes:
    # client_SAP is an integer (8 bits, signed) in the standard.
    client = (context.client_sap + 128) % 256 - 128
    return axdr.structure(axdr.encode("integer", client), axdr.encode("long-unsigned", context.server_sap))


def _context_name(context: AssociationContext) -> bytes:
    return axdr.octet_string(bytes.fromhex("608574050801") + bytes((context.context,)))


def _mechanism_name(context: AssociationContext) -> bytes:
    return axdr.octet_string(bytes.fromhex("608574050802") + bytes((context.mechanism,)))


def _xdlms_context(context: AssociationContext) -> bytes:
    return axdr.structure(
        axdr.encode("bit-string", f"{context.conformance:024b}"),
        axdr.encode("long-unsigned", context.max_receive),
        axdr.encode("long-unsigned", context.max_send),
        axdr.encode("unsigned", DLMS_VERSION),
        axdr.encode("integer", 0),
        axdr.octet_string(b""),
    )


def _security_policy(context: AssociationContext) -> bytes:
    """Return the policy of the association that reads it: what it was opened with counts too."""
    setups = context.security
    stored = 0 if setups is None else setups.attribute(context.client_sap, 2)[1]
    bits = (context.policy >> 4 & 3) << 2 | bool(context.policy & security.SIGNED) << 4
    return axdr.encode("enum", stored | bits | bits << 3)  # a response has what its request had


def _status(context: AssociationContext) -> bytes:
    return axdr.encode("enum", 2 if context.open else 1)
