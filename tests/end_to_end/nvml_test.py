"""NVML and CUPTI as programs find them: ctypes, as every binding of theirs does it."""

import sys
import unittest

from support import BUILD, Case, run_avec

OURS = BUILD / "lib" / "avec"

START = """
import ctypes, os, subprocess
from ctypes import byref, c_char_p, c_int, c_uint, c_uint64, c_ulonglong, c_void_p
ml = ctypes.CDLL("libnvidia-ml.so.1")
ml.nvmlErrorString.restype = c_char_p
def text(name, *arguments):
    buffer = ctypes.create_string_buffer(96)
    assert getattr(ml, name)(*arguments, buffer, c_uint(96)) == 0, name
    return buffer.value.decode()
class Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]
class MemoryV2(ctypes.Structure):
    _fields_ = [("version", c_uint), ("total", c_ulonglong), ("reserved", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]
class Process(ctypes.Structure):
    _fields_ = [("pid", c_uint), ("used", c_ulonglong), ("gi", c_uint), ("ci", c_uint)]
count, device, number = c_uint(), c_void_p(), c_uint()
"""

OPENED = START + """
assert ml.nvmlInit_v2() == 0
assert ml.nvmlDeviceGetHandleByIndex_v2(c_uint(0), byref(device)) == 0
driver = ctypes.CDLL("libcuda.so.1")
def active():
    flags, state = c_uint(), c_int()
    assert driver.cuDevicePrimaryCtxGetState(0, byref(flags), byref(state)) == 0
    return state.value
"""


class Nvml(Case):
    def run_code(self, code):
        result = run_avec(sys.executable, "-c", code, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout.split()[-1:], ["passed"], result.stdout)
        return result

    def test_nothing_works_before_init_and_after_the_last_shutdown(self):
        self.run_code(START + """
assert ml.nvmlDeviceGetCount_v2(byref(count)) == 1
assert ml.nvmlShutdown() == 1
assert ml.nvmlInit_v2() == 0 and ml.nvmlInit() == 0
assert ml.nvmlShutdown() == 0
assert ml.nvmlDeviceGetCount_v2(byref(count)) == 0 and count.value == 1
assert ml.nvmlShutdown() == 0
assert ml.nvmlDeviceGetCount_v2(byref(count)) == 1
assert ml.nvmlErrorString(1) == b"Uninitialized"
print("passed")
""")

    def test_a_device_has_the_name_and_numbers_that_the_driver_gives(self):
        self.run_code(OPENED + """
uuid = text("nvmlDeviceGetUUID", device)
assert uuid.startswith("GPU-") and len(uuid) == 40, uuid
name, pci = text("nvmlDeviceGetName", device), ctypes.create_string_buffer(68)
assert ml.nvmlDeviceGetPciInfo_v3(device, pci) == 0
bus = pci.raw[36:68].split(b"\\0")[0]
major, minor = c_int(), c_int()
assert ml.nvmlDeviceGetCudaComputeCapability(device, byref(major), byref(minor)) == 0
for call, key in (("nvmlDeviceGetHandleByUUID", uuid.encode()), ("nvmlDeviceGetHandleByPciBusId_v2", bus)):
    found = c_void_p()
    assert getattr(ml, call)(key, byref(found)) == 0 and found.value == device.value, call
assert ml.nvmlDeviceGetHandleByUUID(b"GPU-0", byref(found)) == 6
assert ml.nvmlDeviceGetHandleByIndex_v2(c_uint(1), byref(found)) == 2
assert ml.nvmlDeviceGetName(c_void_p(1), ctypes.create_string_buffer(9), c_uint(9)) == 2
assert ml.nvmlDeviceGetName(device, ctypes.create_string_buffer(4), c_uint(4)) == 7
version = c_int()
assert ml.nvmlSystemGetCudaDriverVersion(byref(version)) == 0 and version.value >= 13000
assert not active()
assert driver.cuInit(0) == 0
ours, cc = ctypes.create_string_buffer(96), (c_int(), c_int())
assert driver.cuDeviceGetName(ours, 96, 0) == 0 and ours.value.decode() == name
assert driver.cuDeviceGetUuid_v2(raw := ctypes.create_string_buffer(16), 0) == 0
assert raw.raw.hex() == uuid[4:].replace("-", "")
assert driver.cuDeviceGetAttribute(byref(cc[0]), 75, 0) == 0 and driver.cuDeviceGetAttribute(byref(cc[1]), 76, 0) == 0
assert (cc[0].value, cc[1].value) == (major.value, minor.value)
print("passed")
""")

    def test_memory_is_the_device_s_and_no_context_stays_behind(self):
        self.run_code(OPENED + """
before, after, second = Memory(), Memory(), MemoryV2(version=0x2000028)
assert ml.nvmlDeviceGetMemoryInfo(device, byref(before)) == 0
assert before.total > 0 and before.free + before.used == before.total
current = c_void_p()
assert driver.cuCtxGetCurrent(byref(current)) == 0 and not current.value
assert not active()
context, memory = c_void_p(), c_uint64()
assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(byref(context), 0) == 0
assert driver.cuCtxSetCurrent(context) == 0
assert driver.cuMemAlloc_v2(byref(memory), ctypes.c_size_t(256 << 20)) == 0
assert ml.nvmlDeviceGetMemoryInfo(device, byref(after)) == 0
assert after.used >= before.used + (256 << 20), (before.used, after.used)
assert ml.nvmlDeviceGetMemoryInfo_v2(device, byref(second)) == 0 and second.total == before.total
second.version = 1
assert ml.nvmlDeviceGetMemoryInfo_v2(device, byref(second)) == 25
assert driver.cuCtxGetCurrent(byref(current)) == 0 and current.value == context.value
print("passed")
""")

    def test_processes_are_those_of_the_session(self):
        self.run_code(OPENED + """
processes = (Process * 4)()
count.value = 4
assert ml.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), processes) == 0 and count.value == 0
context = c_void_p()
assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(byref(context), 0) == 0
count.value = 0
assert ml.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), None) == 7 and count.value == 1
assert ml.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), processes) == 0
assert processes[0].pid == os.getpid()
memory, used = c_uint64(), processes[0].used
assert driver.cuCtxSetCurrent(context) == 0 and driver.cuMemAlloc_v2(byref(memory), ctypes.c_size_t(64 << 20)) == 0
assert ml.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), processes) == 0
assert processes[0].used == used + (64 << 20), (processes[0].used, used)
print("passed")
""")

    def test_sensors_are_not_supported_on_the_cpu_device(self):
        self.run_code(OPENED + """
assert ml.nvmlDeviceGetTemperature(device, 0, byref(number)) == 3
assert ml.nvmlDeviceGetPowerUsage(device, byref(number)) == 3
assert ml.nvmlDeviceGetUtilizationRates(device, (c_uint * 2)()) == 3
for link in "CurrPcieLinkGeneration", "CurrPcieLinkWidth", "MaxPcieLinkGeneration", "MaxPcieLinkWidth":
    ask = getattr(ml, f"nvmlDeviceGet{link}")
    assert ask(device, byref(number)) == 3 and ask(device, None) == 2 and ask(None, byref(number)) == 2
assert ml.nvmlDeviceGetNvLinkState(device, 0, byref(number)) == 3
assert ml.nvmlDeviceSetPersistenceMode(device, 1) == 3
assert ml.nvmlErrorString(3) == b"Not Supported"
print("passed")
""")

    def test_a_forked_child_may_use_cuda_when_the_parent_only_used_nvml(self):
        self.run_code(OPENED + """
import sys
def use():
    context, memory = c_void_p(), c_uint64()
    results = [driver.cuInit(0)]
    results.append(driver.cuDevicePrimaryCtxRetain(byref(context), 0))
    results.append(driver.cuCtxSetCurrent(context))
    results.append(driver.cuMemAlloc_v2(byref(memory), ctypes.c_size_t(1 << 20)))
    results.append(driver.cuMemsetD8_v2(memory, 1, ctypes.c_size_t(1 << 20)))
    results.append(driver.cuCtxSynchronize())
    return results
def in_child(function, *, nvml=True):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if nvml:
                assert ml.nvmlDeviceGetCount_v2(byref(count)) == 0 and count.value == 1
            status = 0 if function() else 2
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]
assert in_child(lambda: use() == [0] * 6) == 0
assert in_child(lambda: use() == [0] * 6, nvml=False) == 0
assert use() == [0] * 6
assert in_child(lambda: driver.cuCtxSynchronize() == 3, nvml=False) == 0   # CUDA's own answer
assert in_child(lambda: True, nvml=False) == 0                             # one that does not touch CUDA
assert use() == [0] * 6
print("passed")
""")


class Cupti(Case):
    def test_a_profiler_is_told_that_there_is_none(self):
        code = """
import ctypes
from ctypes import byref
cupti = ctypes.CDLL("libcupti.so.13")
version, text, subscriber = ctypes.c_uint(), ctypes.c_char_p(), ctypes.c_void_p()
assert cupti.cuptiGetVersion(byref(version)) == 0 and version.value == 130000
assert cupti.cuptiGetResultString(27, byref(text)) == 0 and text.value == b"CUPTI_ERROR_NOT_SUPPORTED"
assert cupti.cuptiGetResultString(5000, byref(text)) == 1
assert cupti.cuptiSubscribe(byref(subscriber), None, None) == 27
assert cupti.cuptiSubscribe(byref(subscriber), None, None) == 27
assert cupti.cuptiActivityEnable(3) == 0 and cupti.cuptiActivityFlushAll(0) == 0
record = ctypes.c_void_p(1)
assert cupti.cuptiActivityGetNextRecord(None, ctypes.c_size_t(0), byref(record)) == 12 and not record.value
assert cupti.cuptiProfilerInitialize(None) == 27
print("passed")
"""
        result = run_avec(sys.executable, "-c", code, local=True)
        self.assert_succeeds(result)
        self.assertEqual(result.stdout, "passed\n")
        self.assertEqual(result.stderr.count("cuptiSubscribe is not supported"), 1)


if __name__ == "__main__":
    unittest.main()
