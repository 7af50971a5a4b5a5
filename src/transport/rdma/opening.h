// How a stream becomes an RDMA connection; exchange.h has what is said.
#pragma once

#include <memory>
#include <string>

#include "transport/rdma/context.h"
#include "transport/rdma/device.h"

namespace avec::rdma {

/// Everything that Transport::upgrade() promises. `why_not`: this end has no verbs.
ConnectResult open_over(std::unique_ptr<Connection>& stream,
                        const std::expected<std::shared_ptr<const Verbs>, std::string>& verbs,
                        std::string_view device, Deadline deadline);

}  // namespace avec::rdma
