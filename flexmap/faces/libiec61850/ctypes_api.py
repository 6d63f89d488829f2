"""The functions of libiec61850 that flexmap calls, by ctypes on the shared library of the ``pyiec61850-ng`` wheel.

The wheel's SWIG module is not used: it holds the interpreter lock during calls, so that a model lock and a
Python callback deadlock, and an exception in one of its callbacks ends the process. Here every call releases
the interpreter lock, and every function has its argument types set.

Pointers are plain ``int``; a NULL comes back as ``None``.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_uint,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any

from flexmap.model import ConfigurationError

DISTRIBUTION = "pyiec61850-ng"

Pointer = int

CheckHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_bool, c_bool)
"""(action, parameter, ctlVal, test, interlockCheck) → CheckHandlerResult"""
WaitHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_bool, c_bool)
"""(action, parameter, ctlVal, test, synchroCheck) → ControlHandlerResult"""
OperateHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_bool)
"""(action, parameter, ctlVal, test) → ControlHandlerResult"""
RcbEventHandler = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int, c_char_p, c_int)
"""(parameter, report control block, client, event, parameter name, error)"""

# CheckHandlerResult
CONTROL_ACCEPTED = -1
CONTROL_OBJECT_ACCESS_DENIED = 3
# ControlHandlerResult
CONTROL_RESULT_FAILED = 0
CONTROL_RESULT_OK = 1
CONTROL_RESULT_WAITING = 2

MMS_DATA_ACCESS_ERROR = 15
POLICY_DENY = 1
EDITION_2 = 1

FC = {
    name: number
    for number, name in enumerate(
        "ST MX SP SV CF DC SG SE SR OR BL EX CO US MS RP BR LG GO".split()  # noqa: SIM905 - reads as the standard
    )
}
"""FunctionalConstraint by name."""

BASIC_TYPES = {
    "BOOLEAN": 0,
    "INT8": 1,
    "INT16": 2,
    "INT24": 3,
    "INT32": 3,
    "INT64": 4,
    "INT128": 5,
    "INT8U": 6,
    "INT16U": 7,
    "INT24U": 8,
    "INT32U": 9,
    "FLOAT32": 10,
    "FLOAT64": 11,
    "Enum": 12,
    "Octet64": 13,
    "Octet6": 14,
    "EntryID": 15,
    "VisString32": 16,
    "VisString64": 17,
    "VisString65": 18,
    "VisString129": 19,
    "ObjRef": 19,
    "VisString255": 20,
    "Unicode255": 21,
    "Timestamp": 22,
    "Quality": 23,
    "Check": 24,
    "Dbpos": 25,
    "Tcmd": 25,
    "SvOptFlds": 26,
    "Struct": 27,
    "EntryTime": 28,
    "PhyComAddr": 29,
    "Currency": 30,
    "OptFlds": 31,
    "TrgOps": 32,
}
"""DataAttributeType by the bType of SCL."""

_P = c_void_p
_S = c_char_p
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # model
    "IedModel_create": (_P, (_S,)),
    "IedModel_setIedNameForDynamicModel": (None, (_P, _S)),
    "LogicalDevice_createEx": (_P, (_S, _P, _S)),
    "LogicalNode_create": (_P, (_S, _P)),
    "DataObject_create": (_P, (_S, _P, c_int)),
    "DataAttribute_create": (_P, (_S, _P, c_int, c_int, c_uint8, c_int, c_uint32)),
    "DataAttribute_setValue": (None, (_P, _P)),
    "DataSet_create": (_P, (_S, _P)),
    "DataSetEntry_create": (_P, (_P, _S, c_int, _S)),
    "ReportControlBlock_create": (
        _P,
        (_S, _P, _S, c_bool, _S, c_uint32, c_uint8, c_uint8, c_uint32, c_uint32),
    ),
    # server
    "IedServerConfig_create": (_P, ()),
    "IedServerConfig_destroy": (None, (_P,)),
    "IedServerConfig_setEdition": (None, (_P, c_uint8)),
    "IedServerConfig_enableDynamicDataSetService": (None, (_P, c_bool)),
    "IedServerConfig_enableFileService": (None, (_P, c_bool)),
    "IedServerConfig_enableLogService": (None, (_P, c_bool)),
    "IedServerConfig_enableResvTmsForBRCB": (None, (_P, c_bool)),
    "IedServerConfig_enableOwnerForRCB": (None, (_P, c_bool)),
    "IedServerConfig_setReportSetting": (None, (_P, c_uint8, c_bool)),
    "IedServer_createWithConfig": (_P, (_P, _P, _P)),
    "IedServer_setLocalIpAddress": (None, (_P, _S)),
    "IedServer_setServerIdentity": (None, (_P, _S, _S, _S)),
    "IedServer_setWriteAccessPolicy": (None, (_P, c_int, c_int)),
    "IedServer_startThreadless": (None, (_P, c_int)),
    "IedServer_stopThreadless": (None, (_P,)),
    "IedServer_isRunning": (c_bool, (_P,)),
    "IedServer_waitReady": (c_int, (_P, c_uint)),
    "IedServer_processIncomingData": (None, (_P,)),
    "IedServer_performPeriodicTasks": (None, (_P,)),
    "IedServer_getNumberOfOpenConnections": (c_int, (_P,)),
    "IedServer_lockDataModel": (None, (_P,)),
    "IedServer_unlockDataModel": (None, (_P,)),
    "IedServer_getAttributeValue": (_P, (_P, _P)),
    "IedServer_updateFloatAttributeValue": (None, (_P, _P, c_float)),
    "IedServer_updateInt32AttributeValue": (None, (_P, _P, c_int32)),
    "IedServer_updateInt64AttributeValue": (None, (_P, _P, c_int64)),
    "IedServer_updateBooleanAttributeValue": (None, (_P, _P, c_bool)),
    "IedServer_updateDbposValue": (None, (_P, _P, c_int)),
    "IedServer_updateVisibleStringAttributeValue": (None, (_P, _P, _S)),
    "IedServer_setRCBEventHandler": (None, (_P, RcbEventHandler, _P)),
    "ReportControlBlock_getRptEna": (c_bool, (_P,)),
    "IedServer_updateQuality": (None, (_P, _P, c_uint16)),
    # control
    "IedServer_setControlHandler": (None, (_P, _P, OperateHandler, _P)),
    "IedServer_setPerformCheckHandler": (None, (_P, _P, CheckHandler, _P)),
    "IedServer_setWaitForExecutionHandler": (None, (_P, _P, WaitHandler, _P)),
    "ControlAction_isSelect": (c_bool, (_P,)),
    "ControlAction_setAddCause": (None, (_P, c_int)),
    "ControlAction_getOrCat": (c_int, (_P,)),
    "ControlAction_getClientConnection": (_P, (_P,)),
    "ClientConnection_getPeerAddress": (_S, (_P,)),
    # values
    "MmsValue_delete": (None, (_P,)),
    "MmsValue_newIntegerFromInt32": (_P, (c_int32,)),
    "MmsValue_newIntegerFromInt64": (_P, (c_int64,)),
    "MmsValue_newUnsignedFromUint32": (_P, (c_uint32,)),
    "MmsValue_newBoolean": (_P, (c_bool,)),
    "MmsValue_newFloat": (_P, (c_float,)),
    "MmsValue_newDouble": (_P, (ctypes.c_double,)),
    "MmsValue_newVisibleString": (_P, (_S,)),
    "MmsValue_newMmsString": (_P, (_S,)),
    "MmsValue_newBitString": (_P, (c_int,)),
    "MmsValue_setBitStringFromInteger": (None, (_P, c_uint32)),
    "MmsValue_setBitStringFromIntegerBigEndian": (None, (_P, c_uint32)),
    "MmsValue_setFloat": (None, (_P, c_float)),
    "MmsValue_setInt32": (None, (_P, c_int32)),
    "MmsValue_setInt64": (None, (_P, c_int64)),
    "MmsValue_setBoolean": (None, (_P, c_bool)),
    "MmsValue_setUtcTimeMsEx": (_P, (_P, c_uint64, c_uint8)),
    "MmsValue_getType": (c_int, (_P,)),
    "MmsValue_getBoolean": (c_bool, (_P,)),
    "MmsValue_toInt64": (c_int64, (_P,)),
    "MmsValue_toUint32": (c_uint32, (_P,)),
    "MmsValue_toDouble": (ctypes.c_double, (_P,)),
    "MmsValue_toString": (_S, (_P,)),
    "MmsValue_getArraySize": (c_uint32, (_P,)),
    "MmsValue_getElement": (_P, (_P, c_int)),
    "MmsValue_getBitStringSize": (c_int, (_P,)),
    "MmsValue_getBitStringAsInteger": (c_uint32, (_P,)),
    "MmsValue_getBitStringAsIntegerBigEndian": (c_uint32, (_P,)),
    "MmsValue_getUtcTimeInMs": (c_uint64, (_P,)),
    "MmsValue_getUtcTimeQuality": (c_uint8, (_P,)),
    "MmsValue_getBinaryTimeAsUtcMs": (c_uint64, (_P,)),
    "MmsValue_getOctetStringSize": (c_uint16, (_P,)),
    "MmsValue_getOctetStringBuffer": (POINTER(c_uint8), (_P,)),
    "MmsValue_getDataAccessError": (c_int, (_P,)),
    # client
    "LinkedList_getNext": (_P, (_P,)),
    "LinkedList_getData": (_P, (_P,)),
    "LinkedList_destroy": (None, (_P,)),
    "IedConnection_create": (_P, ()),
    "IedConnection_destroy": (None, (_P,)),
    "IedConnection_setConnectTimeout": (None, (_P, c_uint32)),
    "IedConnection_setRequestTimeout": (None, (_P, c_uint32)),
    "IedConnection_connect": (None, (_P, POINTER(c_int), _S, c_int)),
    "IedConnection_close": (None, (_P,)),
    "IedConnection_getMmsConnection": (_P, (_P,)),
    "MmsConnection_getDomainNames": (_P, (_P, POINTER(c_int))),
    "MmsConnection_getDomainVariableNames": (_P, (_P, POINTER(c_int), _S)),
    "MmsConnection_getVariableAccessAttributes": (_P, (_P, POINTER(c_int), _S, _S)),
    "MmsConnection_readVariable": (_P, (_P, POINTER(c_int), _S, _S)),
    "MmsVariableSpecification_getType": (c_int, (_P,)),
    "MmsVariableSpecification_getSize": (c_int, (_P,)),
    "MmsVariableSpecification_getName": (_S, (_P,)),
    "MmsVariableSpecification_getChildSpecificationByIndex": (_P, (_P, c_int)),
    "MmsVariableSpecification_destroy": (None, (_P,)),
}


def library_path() -> Path:
    """Return the shared library of the installed wheel.

    Raises ConfigurationError if it is not installed.
    """
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith("libiec61850") and ".so" in file.name:
            return Path(str(file.locate()))
    raise ConfigurationError(
        "the MMS engine libiec61850 is not installed", remedy="pip install 'flexmap[libiec61850]'"
    )


def load() -> ctypes.CDLL:
    """Load the library and set the types of every function in the table.

    Raises ConfigurationError if it is not installed or lacks a function.
    """
    library = ctypes.CDLL(str(library_path()))
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ConfigurationError(
                f"the installed libiec61850 has no {name}", remedy="pip install 'flexmap[libiec61850]'"
            ) from None
        function.restype = result
        function.argtypes = arguments
    return library
