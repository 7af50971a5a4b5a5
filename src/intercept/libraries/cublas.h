// What the client keeps of a cuBLAS handle: settings that the program asks back.
#pragma once

namespace avec::libraries {

int check_pointer_mode(const void* handle, int mode);
int note_pointer_mode(const void* handle, int mode);
int note_math_mode(const void* handle, int mode);
int note_atomics_mode(const void* handle, int mode);
int note_sm_count(const void* handle, int count);

}  // namespace avec::libraries
