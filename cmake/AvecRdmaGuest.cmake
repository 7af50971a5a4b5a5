# avec_rdma_guest_test(NAME name COMMAND command [argument ...] [COMMAND ...] ... [TIMEOUT seconds]
#                      [NETWORK veth|lo] [MEMLOCK bytes] [LABELS ...] [FULL])
#
# A test that runs its commands as root in one guest with soft-RoCE (tests/rdma_guest/README.md):
# by default 10.9.0.1 on rxa and 10.9.0.2 on rxb. A command is an existing target, or a program. It
# runs in the current build folder with ctest's environment; what it writes to files is lost.
# Where no guest is possible the test is reported as skipped, with the reason in its output.
#
# The test fails when any command fails, and is skipped when none fails and any exits with 77.
# TIMEOUT is for all commands together (120); the guest's start comes on top of it.
# FULL: only `ctest -C Full` runs it (make test-rdma), `make test` does not.
set(AVEC_RDMA_GUEST_FOLDER "${PROJECT_SOURCE_DIR}/tests/rdma_guest")
set(AVEC_RDMA_GUEST_START_SECONDS 60)  # under emulation, on a machine that is busy

function(avec_rdma_guest_test)
  set(keyword "")
  set(commands "")
  set(labels rdma-guest)
  set(options "")
  set(timeout 120)
  set(configurations "")
  foreach(argument IN LISTS ARGN)
    if(argument MATCHES "^(NAME|TIMEOUT|NETWORK|MEMLOCK|LABELS)$")
      set(keyword "${argument}")
    elseif(argument STREQUAL "FULL")
      set(configurations CONFIGURATIONS Full)
    elseif(argument STREQUAL "COMMAND")
      set(keyword PROGRAM)
      if(commands)
        list(APPEND commands --next)
      endif()
    elseif(keyword STREQUAL "PROGRAM")
      if(TARGET "${argument}")
        set(argument "$<TARGET_FILE:${argument}>")
      endif()
      list(APPEND commands "${argument}")
      set(keyword ARGUMENT)
    elseif(keyword STREQUAL "ARGUMENT")
      list(APPEND commands "${argument}")
    elseif(keyword STREQUAL "NAME")
      set(name "${argument}")
    elseif(keyword STREQUAL "TIMEOUT")
      set(timeout "${argument}")
    elseif(keyword STREQUAL "NETWORK")
      list(APPEND options --network "${argument}")
    elseif(keyword STREQUAL "MEMLOCK")
      list(APPEND options --memlock "${argument}")
    elseif(keyword STREQUAL "LABELS")
      list(APPEND labels "${argument}")
    else()
      message(FATAL_ERROR "avec_rdma_guest_test: ${argument} belongs to no keyword")
    endif()
  endforeach()
  math(EXPR guest_timeout "${timeout} + ${AVEC_RDMA_GUEST_START_SECONDS}")
  # The guest ends itself first, and says so.
  math(EXPR test_timeout "${guest_timeout} + 20")
  add_test(NAME ${name} ${configurations}
    COMMAND "${AVEC_RDMA_GUEST_FOLDER}/run.sh" --timeout ${guest_timeout} ${options} --
      "${AVEC_RDMA_GUEST_FOLDER}/suite.sh" ${commands})
  # One guest at a time, on two cores of its own: emulation beside other tests is slow beyond measure.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${test_timeout} SKIP_RETURN_CODE 77 LABELS "${labels}"
    RESOURCE_LOCK rdma_guest PROCESSORS 2 FIXTURES_REQUIRED rdma_guest)
endfunction()
