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

namespace {

CUresult ready(CUfunction handle, Function*& function) {
  Context* context;
  if (const CUresult result = usable_context(context); result != CUDA_SUCCESS) return result;
  function = find_function(handle);
  return function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/// What cuFuncSetAttribute may change, and to what.
CUresult check_attribute(const Function& function, CUfunction_attribute which, int value) {
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
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

CUresult function_get_attribute(int* value, CUfunction_attribute which, CUfunction handle) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (value == nullptr || which < 0 || which >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
  std::scoped_lock lock(function->mutex);
  *value = static_cast<std::size_t>(which) < function->attributes.size() ? function->attributes[which] : 0;
  return CUDA_SUCCESS;
}

CUresult function_set_attribute(CUfunction handle, CUfunction_attribute which, int value) {
  Function* function;
  if (const CUresult result = ready(handle, function); result != CUDA_SUCCESS) return result;
  if (const CUresult result = check_attribute(*function, which, value); result != CUDA_SUCCESS) return result;
  const auto posted = function->context->client->session().post(
      wire::FunctionSetAttribute(function->module_name, function->index, which, value, 0));
  if (!posted) return to_cuda(posted.error());
  std::scoped_lock lock(function->mutex);
  if (function->attributes.size() <= static_cast<std::size_t>(which))
    function->attributes.resize(static_cast<std::size_t>(which) + 1);
  function->attributes[which] = value;
  function->occupancy.clear();
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
  *state = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}

CUresult function_load(CUfunction handle) {
  Function* function;
  return ready(handle, function);
}

}  // namespace avec::client
