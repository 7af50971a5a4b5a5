// The contract over the RDMA transport.
#include "transport/rdma_backend.h"

#define AVEC_TRANSPORT_BACKEND RdmaBackend
#include "transport/contract.h"
