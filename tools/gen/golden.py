"""C++ that builds a valid frame of each kind, every field set, for tests that then damage it."""
from dataclasses import dataclass

from schema import SCALARS, SchemaError, cpp_name

# FlatBuffers' C++ types of vector elements.
CPP_TYPES = {"bool": "std::uint8_t", "byte": "std::int8_t", "ubyte": "std::uint8_t", "short": "std::int16_t",
             "ushort": "std::uint16_t", "int": "std::int32_t", "uint": "std::uint32_t", "long": "std::int64_t",
             "ulong": "std::uint64_t", "float": "float", "double": "double"}
@dataclass
class Frame:
    call: object
    reply: bool
    record: object  # body; None: a reply without one
    lines: list     # of a table: statements that leave it finished in `builder`

    @property
    def has_payload(self):
        return self.call.payload == ("out" if self.reply or self.call.mode == "push" else "in")


class _Statements:
    """The statements that build one table and, before it, what it refers to."""

    def __init__(self, schema):
        self.schema, self.lines, self.count = schema, [], 0

    def variable(self):
        self.count += 1
        return f"v{self.count}"

    def add(self, line):
        self.lines.append(line)

    def table(self, record):
        fields = [(f.name, self.value(f)) for f in record.fields]
        builder, result = self.variable(), self.variable()
        self.add(f"{record.name}Builder {builder}(builder);")
        for name, value in fields:
            self.add(f"{builder}.add_{cpp_name(name)}({value});")
        self.add(f"const auto {result} = {builder}.Finish();")
        return result

    def value(self, f):
        base, name = f.type.base, self.variable()
        record = self.schema.records.get(base)
        if f.type.vector:
            if base in SCALARS:
                self.add(f"const {CPP_TYPES[base]} {name}_items[] = {{1, 0, 2}};")
                self.add(f"const auto {name} = builder.CreateVector({name}_items, 3);")
            elif record and not record.is_table:
                self.add(f"const {base} {name}_items[] = {{sample<{base}>(), sample<{base}>()}};")
                self.add(f"const auto {name} = builder.CreateVectorOfStructs({name}_items, 2);")
            elif record:
                self.add(f"const flatbuffers::Offset<{base}> {name}_items[] = {{{self.table(record)}}};")
                self.add(f"const auto {name} = builder.CreateVector({name}_items, 1);")
            else:
                raise SchemaError(f.where, f"{f.name}: no frame holds a vector of {base}")
            return name
        if base in SCALARS:
            return "true" if base == "bool" else "1"
        if base == "string":
            self.add(f'const auto {name} = builder.CreateString("{f.name}");')
            return name
        if record and not record.is_table:
            self.add(f"const auto {name} = sample<{base}>();")
            return f"&{name}"
        if record:
            return self.table(record)
        raise SchemaError(f.where, f"{f.name}: no frame holds a {base}")


def frames(schema, calls):
    result = []
    for call in calls:
        for reply in (False, True):
            record = call.reply if reply else call.body
            if reply and call.mode not in ("synchronous", "deferred"):
                continue
            lines = []
            if record is not None and record.is_table:
                statements = _Statements(schema)
                statements.add(f"builder.Finish({statements.table(record)});")
                lines = statements.lines
            result.append(Frame(call, reply, record, lines))
    return result
