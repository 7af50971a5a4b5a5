// The worker process: `avec worker ...`, started by the broker and by nobody else.
#pragma once

namespace avec::worker {

/// Arguments behind the subcommand's name; src/executor/broker/spawn.cc writes them. Returns the
/// exit status.
///
///   --probe LIBRARY   exit status 0 when the driver library has a device; otherwise a sentence
///                     on stdout says why not
///   --fd N ...        serves one session, whose connections come through socket N
int main(int argc, char** argv);

}  // namespace avec::worker
