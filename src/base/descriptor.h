// Descriptors that live in a program of somebody else's. It may close every descriptor that it can
// name and open files that get the same numbers: nothing of ours may then end up in them.
#pragma once

#include "base/handle.h"

namespace avec {

/// The same open file under a number beyond those that programs use (900 and above), so that what
/// the program opens does not get our number when it has closed it, and is not closed by us. Where
/// the limit of open files forbids it the descriptor stays as it is. Keeps errno if empty.
Descriptor out_of_the_way(Descriptor fd) noexcept;

/// An eventfd, out of the way; empty (errno) when the process is out of descriptors.
Descriptor make_event() noexcept;
/// Makes it readable. Writes nothing into a file that took its number. Async-signal-safe; keeps errno.
void signal_event(int fd) noexcept;
/// Makes it unreadable; reads nothing of a file that took its number.
void consume_event(int fd) noexcept;

}  // namespace avec
