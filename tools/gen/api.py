"""The functions that AVEC implements, as the schemas list them, against the toolkit's headers."""
import re
import sys
from dataclasses import dataclass

import cuda_headers
from schema import SchemaError

API_MODES = ("local", "posted", "synchronous")


@dataclass
class Implemented:
    """One implemented function: an entry of driver_api.fbs or runtime_api.fbs, or a call with `api`."""
    name: str
    mode: str
    pair: str       # "", "ptds" or "ptsz": the variant of the per-thread default stream exists too
    override: bool  # written by hand
    proto: str
    doc: str
    where: str

    @property
    def symbols(self):
        return [self.name] + ([f"{self.name}_{self.pair}"] if self.pair else [])


def from_manifest(schema):
    """Entries of a schema whose tables are named like functions."""
    result = []
    for record in schema.records.values():
        a = record.attributes
        for name in ("mode", "proto", "override"):
            if name not in a:
                raise SchemaError(record.where, f"{record.name} has no {name}")
        if a["mode"] not in API_MODES:
            raise SchemaError(record.where, f"mode of {record.name}: expected one of {', '.join(API_MODES)}, "
                              f"found {a['mode']}")
        if a["override"] != "client":
            raise SchemaError(record.where, f"override of {record.name}: expected client, found {a['override']}")
        if a.get("pair", "") not in ("", "ptds", "ptsz"):
            raise SchemaError(record.where, f"pair of {record.name}: expected ptds or ptsz, found {a['pair']}")
        if record.fields or not record.is_table:
            raise SchemaError(record.where, f"{record.name} is an entry for hand-written code: a table without fields")
        if set(a) & {"opcode", "reply", "payload", "from", "api"}:
            raise SchemaError(record.where, f"{record.name} is no call of the wire")
        result.append(Implemented(record.name, a["mode"], a.get("pair", ""), True, a["proto"],
                                  " ".join(record.doc), record.where))
    return result


@dataclass
class Unsupported:
    """Functions that do not work, for one reason: an enumeration of unsupported.fbs."""
    reason: str
    names: list
    where: str

    def of(self, names):
        """Those that a library exports."""
        return [n for n in self.names if n in names]


def from_unsupported(schema):
    """Enumerations whose values are named like functions."""
    result = []
    for enum in schema.enums.values():
        if "unsupported" not in enum.attributes:
            raise SchemaError(enum.where, f"{enum.name} has no reason: unsupported")
        result.append(Unsupported(enum.attributes["unsupported"], sorted(enum.values), enum.where))
    return result


def reasons(unsupported, entries, names):
    """{symbol: reason}, forms for per-thread default streams included. `entries` are implemented
    functions, `names` everything that is exported."""
    implemented = {entry.name for entry in entries}
    found = {}
    for group in unsupported:
        for name in group.names:
            if name not in names:
                raise SchemaError(group.where, f"{name} is no name of a CUDA library")
            if name in implemented:
                raise SchemaError(group.where, f"{name} is implemented and listed as not supported")
            if name in found:
                raise SchemaError(group.where, f"{name} is listed twice")
            for symbol in (name, f"{name}_ptds", f"{name}_ptsz"):
                if symbol in names:
                    found[symbol] = group.reason
    return found


def from_calls(calls):
    """Functions generated from a call of the wire."""
    result = []
    for call in calls:
        a = call.body.attributes
        if "api" in a:
            if "proto" not in a:
                raise SchemaError(call.body.where, f"{call.name} has the api {a['api']} but no proto")
            result.append(Implemented(a["api"], call.mode, "", False, a["proto"],
                                      " ".join(call.body.doc), call.body.where))
    return result


def check(entries, declared, names, toolkit_version):
    """Each entry's prototype against the header's. A difference fails the build for CUDA 13.0 and
    is a warning for later 13.x: there the newer prototype wins or loses at review."""
    seen = {}
    for entry in entries:
        if entry.name in seen:
            raise SchemaError(entry.where, f"{entry.name} is listed twice ({seen[entry.name]})")
        seen[entry.name] = entry.where
        written = cuda_headers.parse_prototype(entry.proto)
        if written is None:
            raise SchemaError(entry.where, f"{entry.name}: not a prototype: {entry.proto}")
        if written.name != entry.name:
            raise SchemaError(entry.where, f"{entry.name}: the prototype is {written.name}'s")
        problem = _difference(entry, written, declared, names)
        if problem is None:
            continue
        if toolkit_version == 13000:
            raise SchemaError(entry.where, problem)
        print(f"warning: {entry.where}: {problem}", file=sys.stderr)


def _difference(entry, written, declared, names):
    for symbol in entry.symbols:
        if symbol not in names:
            return f"{symbol} is no name of the CUDA library"
    header = next((declared[s] for s in entry.symbols if s in declared), None)
    if header is None:
        # Internals of cudart have no public prototype.
        return None if entry.name.startswith("__cuda") else f"{entry.name} is not in the CUDA header"
    if header.types != written.types:
        return f"{entry.name}: the header has {header.prototype.replace(header.name, entry.name)}; " \
               f"the schema has {written.prototype}"
    return None


def entry_text(function, mode, pair, doc):
    """The manifest entry of a function."""
    attributes = [f'mode: "{mode}"'] + ([f'pair: "{pair}"'] if pair else []) + ['override: "client"']
    head = f"/// {doc}\n" if doc else ""
    proto = re.sub(r"\s+", " ", function.prototype)
    return f'{head}table {function.name} ({", ".join(attributes)},\n    proto: "{proto}") {{}}\n'
