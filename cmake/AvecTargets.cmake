# avec_library(name SOURCES ... [LINK ...] [PRIVATE_LINK ...]): a layer, as the static library
# avec_<name> with the alias avec::<name>. Sources see include/, src/ and generated code.
add_library(avec_options INTERFACE)
target_include_directories(avec_options INTERFACE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_include_directories(avec_options SYSTEM INTERFACE "${AVEC_TOML_INCLUDE}" "${AVEC_FLATBUFFERS_INCLUDE}")
target_compile_options(avec_options INTERFACE -Wall -Wextra -Wno-missing-field-initializers
  $<$<BOOL:${AVEC_WERROR}>:-Werror> $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
target_link_libraries(avec_options INTERFACE Threads::Threads)

function(avec_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK;PRIVATE_LINK")
  add_library(avec_${name} STATIC ${arg_SOURCES})
  add_library(avec::${name} ALIAS avec_${name})
  target_link_libraries(avec_${name} PUBLIC avec_options ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
endfunction()

# avec_test(name SOURCES ... LINK ...): a Catch2 program <name>_test, run by ctest with 60 s.
function(avec_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LINK")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_executable(${name}_test ${arg_SOURCES})
  target_link_libraries(${name}_test PRIVATE avec_catch_main ${arg_LINK})
  set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT})
endfunction()
