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


def fails(fft, sparse=None):
    """Posts a call of cuFFT that fails, and one of cuSPARSE; returns when both failures have come."""
    plan, address = made(fft.cufftCreate, ctypes.c_int), memory()
    expect("cufftExecC2C", fft.cufftExecC2C(plan, address, address, 77), 0)
    if sparse is not None:
        descriptor = made(sparse.cusparseCreateMatDescr)
        expect("cusparseDestroyMatDescr", sparse.cusparseDestroyMatDescr(descriptor), 0)
    solver, residual = ctypes.CDLL("libcusolver.so.12"), ctypes.c_double()  # asked: what failed before has come with the answer
    handle, info = made(solver.cusolverDnCreate), made(solver.cusolverDnCreateSyevjInfo)
    expect("cusolverDnXsyevjGetResidual", solver.cusolverDnXsyevjGetResidual(handle, info, ctypes.byref(residual)), 0)
    return plan


def setters_travel_while_a_failure_is_pending(log):
    fft, sparse = ctypes.CDLL("libcufft.so.12"), ctypes.CDLL("libcusparse.so.12")
    handle, plan = made(sparse.cusparseCreate), made(fft.cufftCreate, ctypes.c_int)
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 0), 0)
    fails(fft, sparse)
    # Each tells of the failure, once, and is done.
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 1), 7)
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 0), 0)
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 1), 0)
    expect("auto allocation", fft.cufftSetAutoAllocation(plan, 1), 6)
    expect("auto allocation", fft.cufftSetAutoAllocation(plan, 0), 0)
    fails(fft, sparse)
    expect("cusparseDestroy", sparse.cusparseDestroy(handle), 7)
    expect("cusparseDestroy", sparse.cusparseDestroy(handle), 1)
    expect("cufftDestroy", fft.cufftDestroy(plan), 6)
    expect("cufftDestroy", fft.cufftDestroy(plan), 1)
    the_session_lives()
    expect("noted", [line for line in noted(log) if "create" not in line and line != "transform"],
           ["pointer mode 0", "pointer mode 1", "pointer mode 0", "pointer mode 1", "plan 1 allocates 1", "plan 1 allocates 0",
            "destroy cusparse", "destroy plan 1"])


def work_does_not_begin_while_a_failure_is_pending(log):
    fft, sparse = ctypes.CDLL("libcufft.so.12"), ctypes.CDLL("libcusparse.so.12")
    plan, address = fails(fft), memory()
    expect("cufftExecC2C", fft.cufftExecC2C(plan, address, address, 1), 6)
    expect("cufftExecC2C", fft.cufftExecC2C(plan, address, address, 1), 0)
    the_session_lives()
    expect("transforms", noted(log).count("transform"), 2)
    fails(fft)
    new = ctypes.c_int(-5)
    expect("cufftCreate", fft.cufftCreate(ctypes.byref(new)), 6)
    expect("a plan that was not made", new.value, -5)
    expect("cufftCreate", fft.cufftCreate(ctypes.byref(new)), 0)


def a_mode_that_was_refused_is_not_noted(_):
    sparse = ctypes.CDLL("libcusparse.so.12")
    handle, mode = made(sparse.cusparseCreate), ctypes.c_int(-1)
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 0), 0)
    runtime.cudaDeviceSynchronize()
    # The library refuses it once.
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 1), 6)
    expect("cusparseGetPointerMode", sparse.cusparseGetPointerMode(handle, ctypes.byref(mode)), 0)
    expect("the mode", mode.value, 0)
    expect("pointer mode", sparse.cusparseSetPointerMode(handle, 1), 0)
    expect("cusparseGetPointerMode", sparse.cusparseGetPointerMode(handle, ctypes.byref(mode)), 0)
    expect("the mode", mode.value, 1)


def failures_of_two_libraries_are_both_told(_):
    fft, sparse = ctypes.CDLL("libcufft.so.12"), ctypes.CDLL("libcusparse.so.12")
    value, handle = ctypes.c_int(), made(sparse.cusparseCreate)
    fails(fft, sparse)
    expect("cuFFT", fft.cufftCreate(ctypes.byref(value)), 6)
    expect("cuSPARSE", sparse.cusparseSetPointerMode(handle, 1), 7)
    the_session_lives()
    fails(fft, sparse)
    expect("cuSPARSE", sparse.cusparseSetPointerMode(handle, 0), 7)
    expect("cuFFT", runtime.cudaDeviceSynchronize(), 999)
    the_session_lives()
    expect("cuFFT", fft.cufftCreate(ctypes.byref(value)), 0)
    fails(fft, sparse)
    expect("one", runtime.cudaDeviceSynchronize(), 999)
    expect("the other", runtime.cudaDeviceSynchronize(), 999)
    the_session_lives()


def numbers_of_plans_that_have_ended_name_no_plan(log):
    fft = ctypes.CDLL("libcufft.so.12")
    first = made(fft.cufftCreate, ctypes.c_int)
    ended = [first]
    expect("cufftDestroy", fft.cufftDestroy(first), 0)
    for _ in range(20):
        live = made(fft.cufftCreate, ctypes.c_int)
        expect("a new number", live.value in [plan.value for plan in ended], False)
        for plan in ended:
            expect("cufftSetAutoAllocation of an ended plan", fft.cufftSetAutoAllocation(plan, 1), 1)
            expect("cufftDestroy of an ended plan", fft.cufftDestroy(plan), 1)
        expect("cufftSetAutoAllocation", fft.cufftSetAutoAllocation(live, 0), 0)
        expect("cufftDestroy", fft.cufftDestroy(live), 0)
        ended.append(live)
    the_session_lives()
    expect("noted", noted(log)[2:], ["create plan 1", "plan 1 allocates 0", "destroy plan 1"] * 20)


def outputs_of_a_failed_call_are_as_they_were(_):
    fft, sparse = ctypes.CDLL("libcufft.so.12"), ctypes.CDLL("libcusparse.so.12")
    plan, size, position = made(fft.cufftCreate, ctypes.c_int), ctypes.c_size_t(1234), ctypes.c_int(55)
    expect("cufftGetSize", fft.cufftGetSize(plan, ctypes.byref(size)), 6)
    expect("the size", size.value, 1234)
    # What is read and written comes back as the library left it.
    expect("cufftXtSetWorkAreaPolicy", fft.cufftXtSetWorkAreaPolicy(plan, 0, ctypes.byref(size)), 16)
    expect("the size", size.value, 1235)
    handle = made(sparse.cusparseCreate)
    expect("cusparseXcsrilu02_zeroPivot", sparse.cusparseXcsrilu02_zeroPivot(
        handle, made(sparse.cusparseCreateCsrilu02Info), ctypes.byref(position)), 6)
    expect("the position", position.value, 55)
    # The position of a pivot is told together with a status that is not "ok".
    expect("cusparseXcsric02_zeroPivot", sparse.cusparseXcsric02_zeroPivot(
        handle, made(sparse.cusparseCreateCsric02Info), ctypes.byref(position)), 9)
    expect("the position", position.value, 3)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
    print("as expected")
