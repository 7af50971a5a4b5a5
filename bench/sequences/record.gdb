# Records the call sequence of a CUDA program, for `avec bench inference --sequence FILE`:
#
#   avec run --local -- gdb -q -batch -x bench/sequences/record.gdb PROGRAM | grep -E '^(in|launch|out) ' > FILE
#
# Copies through the driver API's plain functions and launches; x86-64.
set pagination off
set breakpoint pending on
break cuLaunchKernel
commands
silent
printf "launch %d %d %d %d %d %d\n", (int)$rsi, (int)$rdx, (int)$rcx, (int)$r8, (int)$r9, *(int*)($rsp+8)
cont
end
break cuMemcpyHtoD_v2
commands
silent
printf "in %d\n", (int)$rdx
cont
end
break cuMemcpyDtoH_v2
commands
silent
printf "out %d\n", (int)$rdx
cont
end
run
