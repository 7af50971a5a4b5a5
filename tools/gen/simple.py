"""Simple calls: functions whose entry point on the client and handler on the executor follow from
the schema. Each C parameter is one field of the body (or, for results, of the reply)."""
from dataclasses import dataclass

import cuda_headers
from schema import SchemaError

# C type of a handle, by kind. What is ordered by streams or loaded lazily needs more than a
# translation, so it is written by hand.
HANDLES = {"device": "CUdevice", "context": "CUcontext"}


@dataclass
class Input:
    """A field of the body."""
    field: str
    parameter: str  # "" where no parameter gives it
    type: str       # C type of the parameter
    kind: str       # of a handle, or ""
    current: bool   # the thread's current context

    @property
    def reserved(self):
        return not self.parameter and not self.current


@dataclass
class Output:
    """A field of the reply."""
    field: str
    parameter: str
    type: str  # what the parameter points to


@dataclass
class SimpleCall:
    call: object
    function: cuda_headers.Function
    inputs: list
    outputs: list

    @property
    def name(self):
        return self.function.name

    @property
    def parameters(self):
        return ", ".join(cuda_headers.declare(p) for p in self.function.parameters)

    def output_of(self, field):
        return next((o for o in self.outputs if o.field == field), None)


def _input(call, f, parameters):
    kind = f.attributes.get("handle", "")
    if kind and kind not in HANDLES:
        raise SchemaError(f.where, f"{call.name}.{f.name}: a {kind} is not translated by generated code: "
                          "write the function by hand")
    if f.attributes.get("current"):
        if kind != "context":
            raise SchemaError(f.where, f"{call.name}.{f.name}: only a context is current")
        return Input(f.name, "", "", kind, True)
    name = f.attributes.get("arg", f.name)
    if name not in parameters:
        if f.name.startswith("reserved"):
            return Input(f.name, "", "", "", False)
        raise SchemaError(f.where, f"{call.name}.{f.name}: {call.body.attributes['api']} has no parameter {name}")
    parameter = parameters.pop(name)
    if kind and parameter.type != HANDLES[kind]:
        raise SchemaError(f.where, f"{call.name}.{f.name}: {name} is a {parameter.type}, not a {HANDLES[kind]}")
    if "*" in parameter.type:
        raise SchemaError(f.where, f"{call.name}.{f.name}: {name} is a pointer: a field carries a value")
    return Input(f.name, name, parameter.type, kind, False)


def simple_calls(calls):
    """The calls with an api, each parameter matched."""
    result = []
    for call in calls:
        a = call.body.attributes
        if "api" not in a:
            continue
        where = call.body.where
        if "pair" in a:
            raise SchemaError(where, f"{call.name}: generated code knows no streams, so there is no {a['pair']} form")
        if call.body.is_table or (call.reply and call.reply.is_table):
            raise SchemaError(where, f"{call.name}: generated code needs structs for body and reply")
        if call.mode not in ("posted", "synchronous") or call.payload != "none" or call.sender != "client":
            raise SchemaError(where, f"{call.name}: generated code is for posted and synchronous calls without payload")
        function = cuda_headers.parse_prototype(a["proto"])
        if function is None or function.name != a["api"]:
            raise SchemaError(where, f"{call.name}: proto is not the prototype of {a['api']}")
        parameters = {p.name: p for p in function.parameters}
        inputs = [_input(call, f, parameters) for f in call.body.fields]
        outputs = []
        for f in call.reply.fields if call.reply else []:
            name = f.attributes.get("out")
            if name is None:
                if not f.name.startswith("reserved"):
                    raise SchemaError(f.where, f"{call.reply.name}.{f.name}: no out says which parameter receives it")
                continue
            if name not in parameters or not parameters[name].type.endswith(" *"):
                raise SchemaError(f.where, f"{call.reply.name}.{f.name}: {function.name} has no pointer {name}")
            outputs.append(Output(f.name, name, parameters.pop(name).type[:-2]))
        if parameters:
            raise SchemaError(where, f"{call.name}: nothing carries {', '.join(parameters)} of {function.name}")
        if not any(i.kind for i in inputs):
            raise SchemaError(where, f"{call.name}: no handle says which session the call belongs to")
        result.append(SimpleCall(call, function, inputs, outputs))
    return result
