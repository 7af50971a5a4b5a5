"""Reads AVEC's schemas: the FlatBuffers language as schemas/*.fbs use it, and no more.

flatc reads the same files and generates the encoders; this parser exists for what flatc drops:
the attributes of calls and the documentation comments. It is strict: whatever it does not know
is an error with file and line.
"""
import re
from dataclasses import dataclass, field

SCALARS = {
    "bool": 1, "byte": 1, "ubyte": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4,
    "long": 8, "ulong": 8, "float": 4, "double": 8,
}
HANDLE_KINDS = ("device", "context", "stream", "event", "module", "function")
MODES = ("posted", "synchronous", "deferred", "push")
SENDERS = ("client", "executor", "both")
PAYLOADS = ("none", "in", "out")

# Attributes by where they may stand. True: takes a string value; False: a flag.
CALL_ATTRIBUTES = {"opcode": True, "mode": True, "from": True, "reply": True, "payload": True,
                   "may_block": False, "passes": False, "api": True, "proto": True, "pair": True, "override": True}
FIELD_ATTRIBUTES = {"handle": True, "arg": True, "out": True, "current": False}
ENUM_ATTRIBUTES = {"bit_flags": False, "unsupported": True}


# Field names that flatc ends with an underscore because C++ has them as keywords.
CPP_KEYWORDS = {"module", "import", "export", "register", "default", "class", "new", "delete", "operator", "private",
                "public", "protected", "template", "this", "throw", "try", "typename", "union", "virtual", "volatile"}


def cpp_name(name):
    return name + "_" if name in CPP_KEYWORDS else name


class SchemaError(Exception):
    """A mistake in a schema; its text is "file:line: what is wrong"."""

    def __init__(self, where, message):
        super().__init__(f"{where}: {message}")


@dataclass
class Type:
    base: str
    vector: bool = False
    length: int = 0  # of a fixed array in a struct


@dataclass
class Field:
    name: str
    type: Type
    attributes: dict
    doc: list
    where: str
    default: str = ""


@dataclass
class Record:
    """A struct or a table."""
    kind: str
    name: str
    attributes: dict
    fields: list
    doc: list
    where: str
    source: str

    @property
    def is_table(self):
        return self.kind == "table"


@dataclass
class Enum:
    name: str
    base: str
    attributes: dict
    values: list
    doc: list
    where: str


@dataclass
class Schema:
    records: dict = field(default_factory=dict)
    enums: dict = field(default_factory=dict)
    unions: dict = field(default_factory=dict)
    declared_attributes: set = field(default_factory=set)

    def add(self, table, name, item, where):
        for names in (self.records, self.enums, self.unions):
            if name in names:
                raise SchemaError(where, f"{name} is defined twice")
        table[name] = item


_TOKEN = re.compile(
    r"(?P<space>[ \t\r]+)|(?P<newline>\n)|(?P<doc>///[^\n]*)|(?P<comment>//[^\n]*)"
    r'|(?P<string>"[^"\n]*")|(?P<number>-?[0-9][0-9a-zA-Z_.]*)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)'
    r"|(?P<punctuation>[{}()\[\]:;,=])")


def _tokens(text, source):
    line, position = 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise SchemaError(f"{source}:{line}", f"unexpected character {text[position]!r}")
        kind = match.lastgroup
        if kind == "newline":
            line += 1
        elif kind not in ("space", "comment"):
            yield kind, match.group(), line
        position = match.end()
    yield "end", "end of file", line


class _Parser:
    def __init__(self, text, source, schema):
        self.source, self.schema = source, schema
        self.tokens = list(_tokens(text, source))
        self.next = 0

    @property
    def where(self):
        return f"{self.source}:{self.tokens[self.next][2]}"

    def fail(self, message):
        raise SchemaError(self.where, message)

    def peek(self):
        return self.tokens[self.next][1]

    def take(self, kind=None, text=None):
        got_kind, got, _ = self.tokens[self.next]
        if (kind and got_kind != kind) or (text and got != text):
            self.fail(f"expected {text or 'a ' + kind}, found {got}")
        self.next += 1
        return got

    def accept(self, text):
        if self.peek() != text or self.tokens[self.next][0] == "string":
            return False
        self.next += 1
        return True

    def docs(self):
        lines = []
        while self.tokens[self.next][0] == "doc":
            lines.append(self.take()[3:].strip())
        return lines

    def parse(self):
        while True:
            doc = self.docs()
            if self.tokens[self.next][0] == "end":
                return
            where = self.where
            keyword = self.take("name")
            if keyword in ("include", "attribute"):
                value = self.take("string")[1:-1]
                if keyword == "attribute":
                    self.schema.declared_attributes.add(value)
                self.take(text=";")
            elif keyword == "namespace":
                if self.take("name") != "avec.wire":
                    raise SchemaError(where, "the namespace is avec.wire")
                self.take(text=";")
            elif keyword in ("struct", "table"):
                self.record(keyword, doc, where)
            elif keyword == "enum":
                self.enum(doc, where)
            elif keyword == "union":
                self.union(where)
            else:
                raise SchemaError(where, f"unknown declaration {keyword}")

    def attributes(self, known, what):
        result = {}
        if not self.accept("("):
            return result
        while True:
            where = self.where
            name = self.take("name")
            if name not in known:
                raise SchemaError(where, f"unknown attribute {name} of {what}")
            if name in result:
                raise SchemaError(where, f"attribute {name} of {what} stands twice")
            if known[name]:
                if not self.accept(":"):
                    raise SchemaError(where, f"attribute {name} of {what} takes a value")
                result[name] = self.take("string")[1:-1]
            else:
                result[name] = True
            if self.accept(")"):
                return result
            self.take(text=",")

    def type(self):
        if not self.accept("["):
            return Type(self.take("name"))
        base = self.take("name")
        length = 0
        if self.accept(":"):
            length = int(self.take("number"), 0)
            if length < 1:
                self.fail("an array has at least one element")
        self.take(text="]")
        return Type(base, vector=True, length=length)

    def record(self, kind, doc, where):
        name = self.take("name")
        record = Record(kind, name, self.attributes(CALL_ATTRIBUTES, f"{kind} {name}"), [], doc, where, self.source)
        self.take(text="{")
        doc = self.docs()
        while not self.accept("}"):
            where_field = self.where
            field_name = self.take("name")
            if any(f.name == field_name for f in record.fields):
                raise SchemaError(where_field, f"{name}.{field_name} is defined twice")
            self.take(text=":")
            field_type = self.type()
            default = ""
            if self.accept("="):
                default = self.take()
            attributes = self.attributes(FIELD_ATTRIBUTES, f"field {name}.{field_name}")
            self.take(text=";")
            record.fields.append(Field(field_name, field_type, attributes, doc, where_field, default))
            doc = self.docs()
        if kind == "struct" and not record.fields:
            raise SchemaError(where, f"struct {name} has no field")
        self.schema.add(self.schema.records, name, record, where)

    def enum(self, doc, where):
        name = self.take("name")
        self.take(text=":")
        base = self.take("name")
        if base not in SCALARS or base in ("float", "double", "bool"):
            raise SchemaError(where, f"enum {name} has the type {base}, which is no integer")
        attributes = self.attributes(ENUM_ATTRIBUTES, f"enum {name}")
        self.take(text="{")
        values = []
        while True:
            self.docs()
            if self.accept("}"):
                break
            values.append(self.take("name"))
            if self.accept("="):
                self.take("number")
            if not self.accept(","):
                self.docs()
                self.take(text="}")
                break
        self.schema.add(self.schema.enums, name, Enum(name, base, attributes, values, doc, where), where)

    def union(self, where):
        name = self.take("name")
        self.take(text="{")
        members = [self.take("name")]
        while self.accept(","):
            members.append(self.take("name"))
        self.take(text="}")
        self.schema.add(self.schema.unions, name, members, where)


def layout(schema, record):
    """(bytes, alignment) of a struct; its fields may leave no hole."""
    offset, alignment = 0, 1
    for f in record.fields:
        size, align = element_layout(schema, f)
        if offset % align:
            raise SchemaError(f.where, f"{record.name}.{f.name} leaves a hole before it: put a reserved field there")
        offset += size * (f.type.length or 1)
        alignment = max(alignment, align)
    if offset % alignment:
        raise SchemaError(record.where, f"struct {record.name} leaves a hole at its end: put a reserved field there")
    return offset, alignment


def element_layout(schema, f):
    base = f.type.base
    if f.type.vector and not f.type.length:
        raise SchemaError(f.where, f"{f.name}: a struct holds no vector")
    if base in SCALARS:
        return SCALARS[base], SCALARS[base]
    if base in schema.enums:
        size = SCALARS[schema.enums[base].base]
        return size, size
    if base in schema.records and not schema.records[base].is_table:
        return layout(schema, schema.records[base])
    raise SchemaError(f.where, f"{f.name}: a struct cannot hold a {base}")


@dataclass
class Call:
    """A record with an opcode, its attributes resolved."""
    name: str
    opcode: int
    mode: str
    sender: str
    payload: str
    may_block: bool
    passes: bool
    body: Record
    body_bytes: int  # 0: a table
    reply: Record
    reply_bytes: int  # 0: none or a table


def _call(schema, record):
    a, where = record.attributes, record.where
    if "opcode" not in a:
        raise SchemaError(where, f"{record.name} has attributes of a call but no opcode")
    if not re.fullmatch(r"0x[0-9a-f]{4}", a["opcode"]) or int(a["opcode"], 16) == 0:
        raise SchemaError(where, f"opcode of {record.name}: expected 0x0001 to 0xffff, found {a['opcode']}")
    for name, allowed, default in (("mode", MODES, None), ("from", SENDERS, "client"), ("payload", PAYLOADS, "none")):
        value = a.get(name, default)
        if value not in allowed:
            raise SchemaError(where, f"{name} of {record.name}: expected one of {', '.join(allowed)}, found {value}")
    mode, sender, payload = a["mode"], a.get("from", "client"), a.get("payload", "none")
    reply = None
    if "reply" in a:
        reply = schema.records.get(a["reply"])
        if reply is None:
            raise SchemaError(where, f"reply of {record.name}: there is no {a['reply']}")
        if mode not in ("synchronous", "deferred"):
            raise SchemaError(where, f"{record.name} is {mode} and has no reply")
    if (mode == "push") != (sender == "executor"):
        raise SchemaError(where, f"{record.name}: push calls, and only they, come from the executor")
    if mode == "posted" and payload == "out":
        raise SchemaError(where, f"{record.name} is posted: nothing carries a payload back")

    def size(r):
        if r is None or r.is_table:
            return 0
        total = layout(schema, r)[0]
        if total % 8:
            raise SchemaError(r.where, f"struct {r.name} has {total} bytes, which is not a multiple of 8")
        return total

    return Call(record.name, int(a["opcode"], 16), mode, sender, payload, "may_block" in a, "passes" in a,
                record, size(record), reply, size(reply))


def _check_fields(schema, record):
    for f in record.fields:
        base = f.type.base
        if not (base in SCALARS or base == "string" or base in schema.enums or base in schema.records
                or base in schema.unions):
            raise SchemaError(f.where, f"{record.name}.{f.name}: there is no type {base}")
        kind = f.attributes.get("handle")
        if kind is not None and kind not in HANDLE_KINDS:
            raise SchemaError(f.where, f"{record.name}.{f.name}: unknown kind of handle {kind}")
    if not record.is_table:
        layout(schema, record)


def parse(sources):
    """Parses [(name, text)] into one Schema and checks it."""
    schema = Schema()
    for name, text in sources:
        _Parser(text, name, schema).parse()
    for record in schema.records.values():
        for name in list(record.attributes) + [n for f in record.fields for n in f.attributes]:
            if name not in schema.declared_attributes:
                raise SchemaError(record.where, f"attribute {name} is not declared in attributes.fbs")
        _check_fields(schema, record)
    return schema


def calls(schema):
    """The calls of a schema by opcode."""
    by_opcode = {}
    for record in schema.records.values():
        if not record.attributes:
            continue
        if "override" in record.attributes:
            raise SchemaError(record.where, f"{record.name}: override belongs in driver_api.fbs and runtime_api.fbs")
        call = _call(schema, record)
        if call.opcode in by_opcode:
            raise SchemaError(record.where, f"opcode {call.opcode:#06x} of {call.name} is "
                              f"{by_opcode[call.opcode].name}'s: opcodes are unique and frozen")
        by_opcode[call.opcode] = call
    return [by_opcode[opcode] for opcode in sorted(by_opcode)]
