# avec_cuda_program(name SOURCES ... [FLAGS ...]): compiled once by nvcc, for PTX only (what the
# CPU device runs), and linked as <name>_shared, <name>_static and <name>_static_no_pie.
# avec_cuda_test(test PROGRAM name [PRELOAD | AVEC]): runs it directly over the CPU device, or
# through all of avec with an executor of its own.
set(AVEC_PROGRAM_DIR "${PROJECT_BINARY_DIR}/tests/programs")
set(AVEC_CPU_DIRECT_DIR "${PROJECT_BINARY_DIR}/tests/cpu_direct")
file(MAKE_DIRECTORY "${AVEC_PROGRAM_DIR}" "${AVEC_CPU_DIRECT_DIR}")
file(CREATE_LINK "${PROJECT_BINARY_DIR}/lib/avec/libavec_cpu_device.so" "${AVEC_CPU_DIRECT_DIR}/libcuda.so.1" SYMBOLIC)

function(avec_cuda_link output)
  add_custom_command(OUTPUT "${output}" COMMAND "${AVEC_NVCC}" ${ARGN} -o "${output}" -L "${AVEC_CUDA_STUB_DIR}" -lcuda
    DEPENDS ${objects} VERBATIM COMMENT "nvcc link ${output}")
endfunction()

function(avec_cuda_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;FLAGS")
  cmake_path(GET AVEC_CUDA_STUB PARENT_PATH AVEC_CUDA_STUB_DIR)
  set(architecture -gencode arch=compute_75,code=compute_75)
  set(objects)
  foreach(source ${arg_SOURCES})
    cmake_path(GET source STEM stem)
    set(object "${AVEC_PROGRAM_DIR}/${stem}.o")
    add_custom_command(OUTPUT "${object}"
      COMMAND "${AVEC_NVCC}" -std=c++17 -O1 ${architecture} ${arg_FLAGS} -Xcompiler -fPIC
              -c "${CMAKE_CURRENT_SOURCE_DIR}/${source}" -o "${object}"
      DEPENDS ${source} programs/check.h VERBATIM COMMENT "nvcc ${source}")
    list(APPEND objects "${object}")
  endforeach()
  set(base "${AVEC_PROGRAM_DIR}/${name}")
  set(link ${architecture} ${arg_FLAGS} ${objects})
  avec_cuda_link("${base}_shared" ${link} -cudart shared)
  avec_cuda_link("${base}_static" ${link} -cudart static)
  avec_cuda_link("${base}_static_no_pie" ${link} -cudart static -Xcompiler -no-pie)
  set(AVEC_CUDA_PROGRAMS ${AVEC_CUDA_PROGRAMS} "${base}_shared" "${base}_static" "${base}_static_no_pie" PARENT_SCOPE)
endfunction()

function(avec_cuda_test test)
  cmake_parse_arguments(PARSE_ARGV 1 arg "PRELOAD;AVEC" "PROGRAM" "")
  if(arg_AVEC)
    add_test(NAME ${test} COMMAND avec_program run --local --device cpu -- "${AVEC_PROGRAM_DIR}/${arg_PROGRAM}")
    set_tests_properties(${test} PROPERTIES TIMEOUT 60)
    return()
  endif()
  set(environment "LD_LIBRARY_PATH=${AVEC_CPU_DIRECT_DIR}:${PROJECT_BINARY_DIR}/lib/avec")
  if(arg_PRELOAD)
    list(APPEND environment "LD_PRELOAD=$<TARGET_FILE:avec_preload>")
  endif()
  add_test(NAME ${test} COMMAND "${AVEC_PROGRAM_DIR}/${arg_PROGRAM}")
  set_tests_properties(${test} PROPERTIES TIMEOUT 60 ENVIRONMENT "${environment}")
endfunction()
