// Everything of the AVEC C++ library.
#pragma once

#include "avec/buffer.h"
#include "avec/error.h"
#include "avec/executor.h"
#include "avec/module.h"
#include "avec/stream.h"
#include "avec/transport.h"
