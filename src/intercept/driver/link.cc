#include "client/link.h"

#include "entry.h"

using namespace avec::client;

AVEC_DRIVER_CALL(cuLinkCreate, (unsigned count, CUjit_option* options, void** values, CUlinkState* state),
                 link_create(state, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkCreate_v2, (unsigned count, CUjit_option* options, void** values, CUlinkState* state),
                 link_create(state, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkAddData,
                 (CUlinkState state, CUjitInputType type, void* data, size_t bytes, const char* name, unsigned count,
                  CUjit_option* options, void** values),
                 link_add_data(state, type, data, bytes, name, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkAddData_v2,
                 (CUlinkState state, CUjitInputType type, void* data, size_t bytes, const char* name, unsigned count,
                  CUjit_option* options, void** values),
                 link_add_data(state, type, data, bytes, name, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkAddFile,
                 (CUlinkState state, CUjitInputType type, const char* path, unsigned count, CUjit_option* options,
                  void** values),
                 link_add_file(state, type, path, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkAddFile_v2,
                 (CUlinkState state, CUjitInputType type, const char* path, unsigned count, CUjit_option* options,
                  void** values),
                 link_add_file(state, type, path, {count, options, values}))
AVEC_DRIVER_CALL(cuLinkComplete, (CUlinkState state, void** cubin, size_t* bytes), link_complete(state, cubin, bytes))
AVEC_DRIVER_CALL(cuLinkDestroy, (CUlinkState state), link_destroy(state))
