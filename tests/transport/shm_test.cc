#include "transport/shm_backend.h"

#define AVEC_TRANSPORT_BACKEND ShmBackend
#include "transport/contract.h"
