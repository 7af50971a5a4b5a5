#include "client/function.h"

#include "client/client.h"
#include "client/context.h"
#include "client/device.h"
#include "client/library.h"
#include "client/module.h"
#include "client/slab.h"
#include "client/status.h"
#include "session/session.h"

namespace avec::client {

Function* find_function(CUfunction handle) noexcept {
  if (Function* function = Slab<Function>::find(handle)) return function;
  Context* context;
  Function* function = nullptr;
  if (usable_context(context) != CUDA_SUCCESS) return nullptr;
  return function_in(*context, reinterpret_cast<CUkernel>(handle), function) == CUDA_SUCCESS ? function
                                                                                             : nullptr;
}

CUresult ready_function(CUfunction handle, Function*& function) {
  function = find_function(handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const int sticky = function->context->error.load(std::memory_order_relaxed); sticky != CUDA_SUCCESS)
    return static_cast<CUresult>(sticky);
  return load_function(*function);
}

namespace {

CUresult ready(CUfunction handle, Function*& function) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  function = find_function(handle);
  return function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/// A function's own value for an attribute, 0 where it is not known.
int attribute_of(Function& function, CUfunction_attribute which) {
  std::scoped_lock lock(function.mutex);
  return static_cast<std::size_t>(which) < function.attributes.size() ? function.attributes[which] : 0;
}

/// Of a cluster dimension: what the compiler fixed cannot be changed.
CUresult check_cluster_dimension(Function& function, int value) {
  if (function.context->device->attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH) == 0) return CUDA_ERROR_NOT_SUPPORTED;
  if (function.compiled_cluster) return CUDA_ERROR_NOT_PERMITTED;
  return value >= 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/// What cuFuncSetAttribute may change, and to what.
CUresult check_attribute(Function& function, CUfunction_attribute which, int value) {
  switch (which) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
      const std::int64_t most =
          function.context->device->attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
      return value >= 0 && std::int64_t{value} + function.static_shared_bytes <= most
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_INVALID_VALUE;
    }
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return check_cluster_dimension(function, value);
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      return value == 0 || value == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return value >= CU_CLUSTER_SCHEDULING_POLICY_DEFAULT && value <= CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING
                 ? CUDA_SUCCESS
                 : CUDA_ERROR_INVALID_VALUE;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

CUresult function_get_attribute(int* value, CUfunction_attribute which, CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (value == nullptr || which < 0 || which >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult result = load_function(*function); result != CUDA_SUCCESS) return result;
  *value = attribute_of(*function, which);
  return CUDA_SUCCESS;
}

CUresult function_set_attribute(CUfunction handle, CUfunction_attribute which, int value) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (const CUresult result = load_function(*function); result != CUDA_SUCCESS) return result;
  if (const CUresult result = check_attribute(*function, which, value); result != CUDA_SUCCESS) return result;
  const auto posted = function->context->client->session().post(
      wire::FunctionSetAttribute(function->module_name, function->index, which, value, 0));
  if (!posted) return to_cuda(posted.error());
  std::scoped_lock lock(function->mutex);
  if (function->attributes.size() <= static_cast<std::size_t>(which))
    function->attributes.resize(static_cast<std::size_t>(which) + 1);
  function->attributes[which] = value;
  function->occupancy.clear();
  function->clusters.clear();
  if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
    function->max_dynamic_shared_bytes.store(static_cast<std::uint32_t>(value));
  return CUDA_SUCCESS;
}

CUresult function_set_cache_config(CUfunction handle, CUfunc_cache config) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL)
    return CUDA_ERROR_INVALID_VALUE;
  return to_cuda(function->context->client->session().post(
      wire::FunctionSetCacheConfig(function->module_name, function->index, config)));
}

CUresult function_get_module(CUmodule* module, CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (module == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *module = handle_of(function->module);
  return CUDA_SUCCESS;
}

CUresult function_get_name(const char** name, CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *name = function->name.c_str();
  return CUDA_SUCCESS;
}

CUresult function_parameter(CUfunction handle, std::size_t index, std::size_t* offset, std::size_t* bytes) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (offset == nullptr || index >= function->parameter_count) return CUDA_ERROR_INVALID_VALUE;
  *offset = function->parameters[index].offset;
  if (bytes != nullptr) *bytes = function->parameters[index].bytes;
  return CUDA_SUCCESS;
}

CUresult function_loading_state(CUfunctionLoadingState* state, CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (state == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const bool loaded = function->max_threads.load() != 0 || function->asked_for.load();
  *state = loaded ? CU_FUNCTION_LOADING_STATE_LOADED : CU_FUNCTION_LOADING_STATE_UNLOADED;
  return CUDA_SUCCESS;
}

CUresult function_load(CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  return load_function(*function);
}

}  // namespace avec::client
