"""The schema language: what is read, and what is refused with file and line."""
import subprocess
import tempfile
import os
import unittest

import support
from support import calls, parse
from schema import SchemaError


class Schemas(unittest.TestCase):
    def refused(self, text, *words, read=calls):
        with self.assertRaises(SchemaError) as raised:
            read(text)
        for word in words:
            self.assertIn(word, str(raised.exception))

    def test_a_call_is_read_with_all_its_attributes(self):
        call, = calls('namespace avec.wire;\n/// Says.\nstruct Say (opcode: "0x0100", mode: "synchronous", reply: "Said",'
                      ' may_block, passes) {\n  stream:ulong (handle: "stream");\n}\nstruct Said { a:uint; b:[ubyte:4]; }')
        self.assertEqual((call.name, call.opcode, call.mode, call.sender), ("Say", 0x100, "synchronous", "client"))
        self.assertEqual((call.body_bytes, call.reply_bytes, call.may_block, call.passes), (8, 8, True, True))
        self.assertEqual(call.body.doc, ["Says."])

    def test_an_unexpected_character_is_named_with_its_line(self):
        self.refused("struct A {\n  a:ulong;\n  $\n}", "test.fbs:3", "'$'")

    def test_a_missing_semicolon_is_named_with_its_line(self):
        self.refused("struct A {\n  a:ulong\n  b:ulong;\n}", "test.fbs:3", "expected ;")

    def test_an_unknown_attribute_is_refused(self):
        self.refused('\nstruct A (opcode: "0x0100", mood: "posted") { a:ulong; }', "test.fbs:2", "unknown attribute mood")
        self.refused('struct A {\n a:ulong (handel: "stream");\n}', "test.fbs:2", "unknown attribute handel of field A.a")

    def test_an_attribute_that_takes_a_value_needs_one(self):
        self.refused('struct A (opcode) { a:ulong; }', "opcode of struct A takes a value")

    def test_an_attribute_must_be_declared(self):
        with self.assertRaises(SchemaError) as raised:
            support.schema.parse([("test.fbs", 'struct A (opcode: "0x0001", mode: "posted") { a:ulong; }')])
        self.assertIn("attributes.fbs", str(raised.exception))

    def test_an_opcode_stands_once(self):
        self.refused('struct A (opcode: "0x0100", mode: "posted") { a:ulong; }\n'
                     'struct B (opcode: "0x0100", mode: "posted") { a:ulong; }', "test.fbs:2", "opcode 0x0100 of B is A's")

    def test_an_opcode_is_four_hexadecimal_digits_and_not_zero(self):
        for opcode in ("0x0000", "0x100", "256", "0x00FF", "0x10000"):
            self.refused(f'struct A (opcode: "{opcode}", mode: "posted") {{ a:ulong; }}', "opcode of A")

    def test_a_body_is_a_multiple_of_8_bytes(self):
        self.refused('\nstruct A (opcode: "0x0100", mode: "posted") { a:uint; }', "test.fbs:2", "struct A has 4 bytes",
                     "multiple of 8")
        self.refused('struct R { a:uint; }\nstruct A (opcode: "0x0100", mode: "synchronous", reply: "R") { a:ulong; }',
                     "struct R has 4 bytes")

    def test_a_struct_has_no_holes(self):
        self.refused("struct A {\n a:uint;\n b:ulong;\n}", "test.fbs:3", "A.b leaves a hole")
        self.refused("\nstruct A {\n a:ulong;\n b:uint;\n}", "test.fbs:2", "hole at its end")

    def test_modes_and_directions_fit_each_other(self):
        self.refused('struct A (opcode: "0x0100", mode: "sometimes") { a:ulong; }', "mode of A")
        self.refused('struct A (opcode: "0x0100", mode: "posted", payload: "out") { a:ulong; }', "posted")
        self.refused('struct A (opcode: "0x0100", mode: "push") { a:ulong; }', "push calls")
        self.refused('struct R { a:ulong; }\nstruct A (opcode: "0x0100", mode: "posted", reply: "R") { a:ulong; }',
                     "has no reply")
        self.refused('struct A (opcode: "0x0100", mode: "synchronous", reply: "R") { a:ulong; }', "there is no R")

    def test_types_and_names_are_checked(self):
        self.refused("struct A {\n a:ulonk;\n}", "test.fbs:2", "no type ulonk")
        self.refused("struct A { a:ulong; }\nstruct A { a:ulong; }", "test.fbs:2", "defined twice")
        self.refused("struct A {\n a:ulong;\n a:ulong;\n}", "test.fbs:3", "A.a is defined twice")
        self.refused("struct A { a:string; }", "cannot hold a string")
        self.refused('struct A { a:ulong (handle: "window"); }', "unknown kind of handle window")

    def test_calls_are_sorted_by_opcode(self):
        text = "".join(f'struct C{n} (opcode: "0x0{n}00", mode: "posted") {{ a:ulong; }}\n' for n in (3, 1, 2))
        self.assertEqual([c.name for c in calls(text)], ["C1", "C2", "C3"])

    def test_the_shipped_schemas_are_read(self):
        parsed = support.schema.parse([(p.name, p.read_text()) for p in support.WIRE])
        self.assertGreater(len(support.schema.calls(parsed)), 30)

    def test_flatc_reads_every_schema(self):
        flatc = os.environ.get("AVEC_FLATC", "flatc")
        for path in sorted(support.SCHEMAS.glob("*.fbs")):
            with tempfile.TemporaryDirectory() as out:
                done = subprocess.run([flatc, "--cpp", "-I", support.SCHEMAS, "-o", out, path], capture_output=True,
                                      text=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 0, f"{path.name}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    unittest.main()
