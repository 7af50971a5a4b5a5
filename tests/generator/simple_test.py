"""Calls that are made from one schema entry: what is generated, what is refused, and the document."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import support
import simple
from schema import SchemaError

GET = '''
/// Asks.
struct GetWidth (opcode: "0x7000", mode: "synchronous", reply: "GetWidthReply", api: "cuDeviceGetWidth",
    proto: "CUresult cuDeviceGetWidth(size_t *width, CUarray_format format, CUdevice dev)") {
  format:int; device:int (handle: "device", arg: "dev");
}
struct GetWidthReply { width:ulong (out: "width"); }
'''


def simple_calls(text):
    return simple.simple_calls(support.calls(text))


class Simple(unittest.TestCase):
    def refused(self, text, *words):
        with self.assertRaises(SchemaError) as raised:
            simple_calls(text)
        for word in words:
            self.assertIn(word, str(raised.exception))

    def test_parameters_are_matched_by_name_or_arg(self):
        call, = simple_calls(GET)
        self.assertEqual([(i.field, i.parameter, i.kind) for i in call.inputs],
                         [("format", "format", ""), ("device", "dev", "device")])
        self.assertEqual([(o.field, o.parameter, o.type) for o in call.outputs], [("width", "width", "size_t")])
        self.assertEqual(call.parameters, "size_t *width, CUarray_format format, CUdevice dev")

    def test_a_parameter_that_nothing_carries_is_named(self):
        self.refused(GET.replace("CUdevice dev)", "CUdevice dev, int more)"), "nothing carries more of cuDeviceGetWidth")

    def test_a_field_without_parameter_is_named(self):
        self.refused(GET.replace('arg: "dev"', 'arg: "devise"'), "GetWidth.device", "no parameter devise")

    def test_a_result_needs_a_pointer(self):
        self.refused(GET.replace("size_t *width", "size_t width"), "no pointer width")
        self.refused(GET.replace(' (out: "width")', ""), "GetWidthReply.width", "no out")

    def test_a_handle_has_the_type_of_its_kind(self):
        self.refused(GET.replace("CUdevice dev)", "CUcontext dev)"), "dev is a CUcontext, not a CUdevice")

    def test_what_streams_order_is_written_by_hand(self):
        self.refused(GET.replace('device:int (handle: "device"', 'device:int (handle: "stream"'), "by hand")

    def test_a_call_needs_a_handle_that_names_its_session(self):
        self.refused(GET.replace('(handle: "device", arg: "dev")', '(arg: "dev")'), "which session")

    def test_a_pointer_is_no_value(self):
        self.refused(GET.replace("CUarray_format format", "CUarray_format *format"), "a field carries a value")

    def test_the_generated_code_compiles_and_translates(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder)
            (out / "extra.fbs").write_text('include "attributes.fbs";\nnamespace avec.wire;\n'
                                           + GET.replace("cuDeviceGetWidth", "cuDeviceGetTexture1DLinearMaxWidth")
                                           .replace("CUdevice dev)", "unsigned numChannels, CUdevice dev)")
                                           .replace("format:int; ", 'format:int; channels:uint (arg: "numChannels"); ')
                                           .replace('arg: "dev");', 'arg: "dev"); reserved:uint;'))
            base = ("attributes", "frame", "handshake", "session")
            wire = [p for p in support.WIRE if p.stem in base]
            done = support.generate("calls", "--out", out, *wire, out / "extra.fbs")
            self.assertEqual(done.returncode, 0, done.stderr)
            for path in wire[1:] + [out / "extra.fbs"]:
                subprocess.run([os.environ.get("AVEC_FLATC", "flatc"), "--cpp", "--scoped-enums", "-I", support.SCHEMAS,
                                "-o", out, path], check=True, timeout=60)
            (out / "attributes_generated.h").write_text("#pragma once\n")
            # The real one names every schema; here the extra one stands in the place of those with calls.
            (out / "schemas_generated.h").write_text("".join(f'#include "{name}_generated.h"\n'
                                                             for name in (*base[1:], "extra")))
            (out / "program.cc").write_text(PROGRAM)
            include = os.environ.get("AVEC_CUDA_INCLUDE", "/usr/local/cuda/include")
            # A compiler that is told of /usr/include no longer finds the C headers behind its own.
            flatbuffers = ["-isystem", path] if (path := os.environ.get("AVEC_FLATBUFFERS_INCLUDE", "/usr/include")) \
                != "/usr/include" else []
            compiled = subprocess.run(
                [os.environ.get("AVEC_CXX", "c++"), "-std=c++23", "-Wall", "-Wextra", "-Werror", "-I", out, "-I",
                 support.ROOT / "include", "-I", support.ROOT / "src", "-isystem", include,
                 *flatbuffers, out / "program.cc", "-o", out / "program"],
                capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(compiled.returncode, 0, compiled.stderr)
            ran = subprocess.run([out / "program"], capture_output=True, text=True, timeout=10, check=False)
            self.assertEqual((ran.returncode, ran.stdout), (0, "format 32 channels 4 device 3 -> 131072\n"))

    def test_the_document_shows_the_entry_that_is_there(self):
        document = (support.ROOT / "docs" / "adding-a-call.md").read_text()
        blocks = re.findall(r"```fbs\n(.*?)```", document, re.S)
        self.assertTrue(blocks)
        driver = (support.SCHEMAS / "driver.fbs").read_text() + (support.SCHEMAS / "driver_api.fbs").read_text()
        for block in blocks:
            self.assertIn(block, driver)


# The executor's side of the generated call, with a driver and names of its own.
PROGRAM = '''
#include <cstdio>
#include "simple_functions.h"
#include "simple_handlers.h"

struct Driver {
  CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t* width, CUarray_format format, unsigned channels, CUdevice device) const {
    std::printf("format %d channels %u device %d -> ", static_cast<int>(format), channels, device);
    *width = 131072;
    return CUDA_SUCCESS;
  }
};
struct Resolver {
  CUresult device(int ordinal, CUdevice& device) { device = ordinal + 1; return CUDA_SUCCESS; }
};
#define COUNT(name) +1
static_assert(AVEC_SIMPLE_DRIVER_FUNCTIONS(COUNT) == 1);
static_assert(!avec::worker::SimpleCall<avec::wire::Ping>::exists);

int main() {
  using Call = avec::worker::SimpleCall<avec::wire::GetWidth>;
  static_assert(Call::exists);
  Resolver resolver;
  avec::wire::GetWidthReply reply;
  const avec::wire::GetWidth body(CU_AD_FORMAT_FLOAT, 4, 2, 0);
  if (Call::run(Driver{}, resolver, body, reply) != CUDA_SUCCESS) return 1;
  std::printf("%llu\\n", static_cast<unsigned long long>(reply.width()));
}
'''

if __name__ == "__main__":
    unittest.main()
