"""Programs over libraries that fail (failing.c), one a case: `failing.py CASE LOG`, through avec."""
import ctypes
import pathlib
import sys

MIB = 1 << 20
runtime = ctypes.CDLL("libcudart.so.13")


def made(create, kind=ctypes.c_void_p):
    value = kind()
    expect(create.__name__, create(ctypes.byref(value)), 0)
    return value


def memory():
    address = ctypes.c_void_p()
    expect("cudaMalloc", runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(4096)), 0)
    return address


def noted(log):
    return pathlib.Path(log).read_text().splitlines() if pathlib.Path(log).exists() else []


def expect(what, got, wanted):
    assert got == wanted, f"{what}: {got}, not {wanted}"


def the_session_lives():
    expect("cudaDeviceSynchronize", runtime.cudaDeviceSynchronize(), 0)


def large_scratch(log):
    solver, address = ctypes.CDLL("libcusolver.so.12"), memory()
    handle = made(solver.cusolverDnCreate)

    def factor(host_bytes):
        size = ctypes.c_size_t(host_bytes)
        return solver.cusolverDnXpotrf(handle, None, 0, ctypes.c_int64(4), 1, address, ctypes.c_int64(4), 1, address,
                                       ctypes.c_size_t(64), address, size, address)
    for _ in range(2):  # asked, then posted
        expect("12 MiB", factor(12 * MIB), 0)
        expect("1 more", factor(12 * MIB + 1), 0)
        expect("200 MiB", factor(200 * MIB), 0)
    the_session_lives()
    expect("noted", noted(log), [f"worked in {size}" for size in (12 * MIB, 12 * MIB + 1, 200 * MIB)] * 2)
    expect("more than the executor lends", factor(2048 * MIB + 1), 2)
    expect("-1", factor(2**64 - 1), 2)
    the_session_lives()


def large_arguments(_):
    blas = ctypes.CDLL("libcublas.so.13")
    handle = made(blas.cublasCreate_v2)

    def multiply(groups):
        """So many groups of products, each of none: six arrays of numbers, three of addresses."""
        numbers, addresses = (ctypes.c_int * groups)(), (ctypes.c_void_p * 1)()
        scalars = (ctypes.c_float * groups)()
        return blas.cublasSgemmGroupedBatched(handle, numbers, numbers, numbers, numbers, numbers, scalars, addresses,
                                              numbers, addresses, numbers, scalars, addresses, numbers, groups, numbers)
    most = 12 * MIB // 11 // 8 * 2  # of eleven arrays, each of a multiple of 8 bytes
    expect("12 MiB together", multiply(most), 7)  # the word of the library, which got it
    the_session_lives()
    expect("more than 12 MiB together", multiply(most + 2), 15)
    expect("one of 12 MiB", multiply(3 * MIB), 15)
    expect("one of 16 MiB", multiply(4 * MIB), 15)
    the_session_lives()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
    print("as expected")
