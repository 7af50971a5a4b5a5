// Memory and events shared with other sessions of this executor.
#include <cstring>

#include "executor/worker/session.h"

namespace avec::worker {
namespace {

wire::IpcHandle to_wire(const void* bytes) {
  static_assert(sizeof(wire::IpcHandle) == sizeof(IpcBytes));
  wire::IpcHandle handle;
  std::memcpy(static_cast<void*>(&handle), bytes, sizeof handle);
  return handle;
}

}  // namespace

Result<> Session::operator()(const Header& header, const wire::IpcExportMemory& call) {
  std::uint64_t base = call.memory(), bytes = 0;
  ExportTag tag{ExportTag::Kind::kMemory, base};
  int device = 0;
  CUmemGenericAllocationHandle handle = 0;
  if (call.memory() != 0) {
    const Physical* memory = physical_.find(call.memory());
    if (memory == nullptr || memory->making) return finish(header, CUDA_ERROR_INVALID_VALUE);
    bytes = memory->bytes;
    device = memory->device;
    handle = memory->handle;
  } else {
    if (!memory_.covers(call.address(), 1)) return finish(header, CUDA_ERROR_INVALID_VALUE);
    const auto mapping = std::prev(memory_.all().upper_bound(call.address()));
    if (mapping->second.module != 0) return finish(header, CUDA_ERROR_INVALID_VALUE);
    base = mapping->first;
    tag = {ExportTag::Kind::kAddress, base};
    bytes = mapping->second.bytes;
    device = mapping->second.device;
  }
  if (!exportable_[static_cast<std::size_t>(device)]) return finish(header, CUDA_ERROR_NOT_SUPPORTED);
  // Also where the name is known: the memory lives for as long as this handle does, not the name.
  CUresult status = CUDA_SUCCESS;
  const bool retained = handle == 0;
  if (retained) status = driver_.cuMemRetainAllocationHandle(&handle, reinterpret_cast<void*>(base));
  int given = -1;
  if (status == CUDA_SUCCESS) {
    status = driver_.cuMemExportToShareableHandle(&given, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (retained) driver_.cuMemRelease(handle);
  }
  if (status != CUDA_SUCCESS) return finish(header, status);
  Descriptor descriptor(given);
  if (exports_ == nullptr) exports_ = MemoryExports::open();
  if (exports_ == nullptr) return finish(header, CUDA_ERROR_OPERATING_SYSTEM);
  const auto exported = exports_->add(tag, std::move(descriptor), bytes);
  if (!exported) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  return answer(header, wire::IpcExportMemoryReply(base, bytes, to_wire(exported->data())));
}

Result<> Session::operator()(const Header& header, const wire::IpcImportMemory& call) {
  if (call.device() < 0 || call.device() >= device_count_) return finish(header, CUDA_ERROR_INVALID_DEVICE);
  Physical* memory = physical_.add(call.memory());
  if (memory == nullptr) return protocol_error("a memory's name that cannot be given");
  memory->making = true;
  memory->device = call.device();
  IpcBytes handle;
  std::memcpy(handle.data(), call.handle().bytes()->Data(), handle.size());
  helpers_.run([this, header = Header(header), name = call.memory(), bytes = call.bytes(),
                handle]() -> std::function<void()> {
    CUmemGenericAllocationHandle opened = 0;
    CUresult status = CUDA_ERROR_INVALID_VALUE;
    const auto imported = import_memory(handle);
    if (imported && imported->bytes == bytes) {
      status = driver_.cuMemImportFromShareableHandle(
          &opened, reinterpret_cast<void*>(static_cast<std::intptr_t>(imported->descriptor.get())),
          CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    }
    return [this, header, name, bytes, opened, status] {
      if (status == CUDA_SUCCESS) {
        Physical* memory = physical_.find(name);
        memory->handle = opened;
        memory->bytes = bytes;
        memory->making = false;
      } else {
        physical_.remove(name);
      }
      finish(header, status);
    };
  });
  return {};
}

Result<> Session::operator()(const Header& header, const wire::IpcExportEvent& call) {
  CUresult status;
  Event* event = find_event(call.event(), status);
  if (event == nullptr) return finish(header, status);
  if (exports_ == nullptr) exports_ = MemoryExports::open();
  if (exports_ == nullptr) return finish(header, CUDA_ERROR_OPERATING_SYSTEM);
  static_assert(sizeof(CUipcEventHandle) == sizeof(IpcBytes));
  CUipcEventHandle handle;
  make_current(*event->context);
  status = driver_.cuIpcGetEventHandle(&handle, event->handle);
  if (status != CUDA_SUCCESS) return finish(header, status);
  // The driver's handle can be guessed: others get it for a secret.
  IpcBytes bytes;
  std::memcpy(bytes.data(), &handle, sizeof handle);
  const auto exported = exports_->add_event({ExportTag::Kind::kEvent, call.event()}, bytes);
  if (!exported) return finish(header, CUDA_ERROR_OUT_OF_MEMORY);
  return answer(header, wire::IpcExportEventReply(to_wire(exported->data())));
}

Result<> Session::operator()(const Header& header, const wire::IpcOpenEvent& call) {
  if (events_.find(call.event()) != nullptr) return protocol_error("an event's name that cannot be given");
  IpcBytes handle;
  std::memcpy(handle.data(), call.handle().bytes()->Data(), handle.size());
  helpers_.run([this, header = Header(header), name = call.event(), context = call.context(),
                handle]() -> std::function<void()> {
    return [this, header, name, context, given = import_event(handle)] {
      finish(header, given ? open_event(name, context, *given) : CUDA_ERROR_INVALID_VALUE);
    };
  });
  return {};
}

CUresult Session::open_event(std::uint64_t name, std::uint64_t context_name, const IpcBytes& given) {
  CUresult status;
  Context* context = find_context(context_name, status);
  if (context == nullptr) return status;
  CUipcEventHandle handle;
  std::memcpy(&handle, given.data(), sizeof handle);
  make_current(*context);
  CUevent opened = nullptr;
  status = driver_.cuIpcOpenEventHandle(&opened, handle);
  if (status != CUDA_SUCCESS) return status;
  Event* event = events_.add(name);
  if (event == nullptr) {  // its name was given away meanwhile
    driver_.cuEventDestroy(opened);
    return CUDA_ERROR_INVALID_VALUE;
  }
  event->context = context;
  event->handle = opened;
  return CUDA_SUCCESS;
}

}  // namespace avec::worker
