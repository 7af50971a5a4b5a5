// What a client wants to know of the devices once and for all.
#pragma once

#include <cstdint>
#include <vector>

#include "executor/worker/driver.h"
#include "wire/frame.h"

namespace avec::worker {

/// Facts of every device; priorities and limits are those that a context would report.
std::vector<flatbuffers::Offset<wire::DeviceFacts>> device_facts(const DriverTable& driver, int devices,
                                                                 flatbuffers::FlatBufferBuilder& builder);

}  // namespace avec::worker
