// Sizes that cuSOLVER functions read and write in host memory: the same on both sides.
#pragma once

#include "libraries/data_types.h"
