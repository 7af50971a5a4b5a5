#include "client/progress.h"

#include <span>

#include "client/callbacks.h"
#include "client/event.h"
#include "client/slab.h"
#include "client/stream.h"
#include "fake_session.h"
#include "support/catch.h"

using namespace avec::client;
using namespace avec;
using test::Fixture;

namespace {

CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream;
  REQUIRE(stream_create(&stream, flags, 0) == CUDA_SUCCESS);
  return stream;
}

CUevent make_event() {
  CUevent event;
  REQUIRE(event_create(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS);
  return event;
}

CUresult record(CUevent event, CUstream stream) {
  const CUresult result = event_record(event, stream, 0);
  end_work();
  return result;
}

void add_work(CUstream handle) {
  Stream* stream;
  REQUIRE(stream_for_device_work(handle, stream) == CUDA_SUCCESS);
  REQUIRE(stream->context->client->session().post(wire::MemFence(stream->name)));
  end_work();
}

template <class Body>
void push(Fixture& f, const Body& body) {
  f.client.pushed(wire::CallTraits<Body>::opcode, std::as_bytes(std::span(&body, 1)));
}

std::uint64_t name_of(CUevent event) { return Slab<Event>::find(event)->name; }
std::uint64_t name_of(CUstream stream) { return Slab<Stream>::find(stream)->name; }

}  // namespace

TEST_CASE("an event that was not ready is asked once, until the executor pushes") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  f.session->fail_next<wire::EventWatch>(CUDA_ERROR_NOT_READY);
  const auto before = f.session->round_trips;
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  CHECK(f.session->round_trips == before + 1);
  push(f, wire::EventDone(name_of(event), 1, CUDA_SUCCESS, 0));
  CHECK(event_query(event) == CUDA_SUCCESS);
  CHECK(event_synchronize(event) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before + 1);
  CHECK(f.session->count<wire::EventSynchronize>() == 0);
}

TEST_CASE("an event that was queried before is watched from its next record on, without a round trip") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::EventWatch>() == 0);
  CHECK(event_query(event) == CUDA_SUCCESS);
  const auto before = f.session->round_trips;
  for (std::uint64_t number = 2; number < 100; ++number) {
    REQUIRE(record(event, stream) == CUDA_SUCCESS);
    CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
    push(f, wire::EventDone(name_of(event), number, CUDA_SUCCESS, 0));
    CHECK(event_query(event) == CUDA_SUCCESS);
  }
  CHECK(f.session->round_trips == before);
}

TEST_CASE("a push of an earlier record says nothing of the last") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  CHECK(event_query(event) == CUDA_SUCCESS);
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  push(f, wire::EventDone(name_of(event), 2, CUDA_SUCCESS, 0));
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  push(f, wire::EventDone(name_of(event), 1000, CUDA_SUCCESS, 0));  // of records that were never made
  CHECK(event_query(event) == CUDA_SUCCESS);
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
}

TEST_CASE("waiting for a stream or a context tells of its events and its work, not of others'") {
  Fixture f;
  CUstream one = make_stream(), two = make_stream();
  CUevent first = make_event(), second = make_event();
  REQUIRE(record(first, one) == CUDA_SUCCESS);
  REQUIRE(record(second, two) == CUDA_SUCCESS);
  REQUIRE(stream_synchronize(one) == CUDA_SUCCESS);
  const auto before = f.session->round_trips;
  CHECK(event_query(first) == CUDA_SUCCESS);
  CHECK(stream_query(one) == CUDA_SUCCESS);
  CHECK(stream_synchronize(one) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
  f.session->fail_next<wire::EventWatch>(CUDA_ERROR_NOT_READY);
  CHECK(event_query(second) == CUDA_ERROR_NOT_READY);
  REQUIRE(context_synchronize() == CUDA_SUCCESS);
  CHECK(event_query(second) == CUDA_SUCCESS);
  CHECK(stream_query(two) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before + 2);
  REQUIRE(record(first, two) == CUDA_SUCCESS);
  f.session->fail_next<wire::EventWatch>(CUDA_ERROR_NOT_READY);
  CHECK(event_query(first) == CUDA_ERROR_NOT_READY);
}

TEST_CASE("a stream is asked once for each idling that the executor does not push") {
  Fixture f;
  CUstream stream = make_stream();
  add_work(stream);
  const auto before = f.session->round_trips;
  f.session->fail_next<wire::StreamWatch>(CUDA_ERROR_NOT_READY);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  CHECK(f.session->round_trips == before + 1);
  push(f, wire::StreamDone(name_of(stream), f.session->last_posted(), CUDA_SUCCESS, 0));
  CHECK(stream_query(stream) == CUDA_SUCCESS);
  add_work(stream);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  const std::uint64_t posted = f.session->last_posted();
  push(f, wire::StreamDone(name_of(stream), posted, CUDA_SUCCESS, 0));
  CHECK(stream_query(stream) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before + 1);
}

TEST_CASE("a push that was on its way when work was added makes the client ask again") {
  Fixture f;
  CUstream stream = make_stream();
  add_work(stream);
  f.session->fail_next<wire::StreamWatch>(CUDA_ERROR_NOT_READY);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  const std::uint64_t through = f.session->last_posted();
  add_work(stream);
  push(f, wire::StreamDone(name_of(stream), through, CUDA_SUCCESS, 0));
  f.session->fail_next<wire::StreamWatch>(CUDA_ERROR_NOT_READY);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  CHECK(f.session->count<wire::StreamWatch>() == 2);
  CHECK(stream_query(stream) == CUDA_ERROR_NOT_READY);
  CHECK(f.session->count<wire::StreamWatch>() == 2);
}

TEST_CASE("the legacy stream is busy while streams that it waits for are, and only they") {
  Fixture f;
  CUstream blocking = make_stream(CU_STREAM_DEFAULT), free = make_stream();
  add_work(free);
  CHECK(stream_query(nullptr) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::StreamWatch>() == 0);
  add_work(blocking);
  f.session->fail_next<wire::StreamWatch>(CUDA_ERROR_NOT_READY);
  CHECK(stream_query(nullptr) == CUDA_ERROR_NOT_READY);
}

TEST_CASE("a pushed error is the context's from then on") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  f.session->fail_next<wire::EventWatch>(CUDA_ERROR_NOT_READY);
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  push(f, wire::EventDone(name_of(event), 1, CUDA_ERROR_ILLEGAL_ADDRESS, 0));
  CHECK(event_query(event) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(stream_query(stream) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST_CASE("what is known to be done still returns the error of a posted call, once") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  REQUIRE(stream_synchronize(stream) == CUDA_SUCCESS);
  const auto before = f.session->round_trips;
  f.client.posted_call_failed(CUDA_ERROR_INVALID_VALUE);
  CHECK(event_synchronize(event) == CUDA_ERROR_INVALID_VALUE);
  CHECK(event_synchronize(event) == CUDA_SUCCESS);
  f.client.posted_call_failed(CUDA_ERROR_INVALID_VALUE);
  CHECK(stream_query(stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(stream_synchronize(stream) == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
}

TEST_CASE("pushes for objects that are gone, or never were, touch nothing") {
  Fixture f;
  CUstream stream = make_stream();
  CUevent event = make_event();
  REQUIRE(record(event, stream) == CUDA_SUCCESS);
  f.session->fail_next<wire::EventWatch>(CUDA_ERROR_NOT_READY);
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  const std::uint64_t name = name_of(event), other = name_of(stream);
  REQUIRE(event_destroy(event) == CUDA_SUCCESS);
  push(f, wire::EventDone(name, 1, CUDA_ERROR_ILLEGAL_ADDRESS, 0));
  push(f, wire::StreamDone(other, 1, CUDA_ERROR_ILLEGAL_ADDRESS, 0));  // not watched
  push(f, wire::HostFunctionDue(12345, CUDA_SUCCESS, 0));
  CHECK(stream_synchronize(stream) == CUDA_SUCCESS);
}

TEST_CASE("an event that something else records is always asked") {
  Fixture f;
  CUevent event = make_event();
  recorded_elsewhere(*Slab<Event>::find(event));
  f.session->fail_next<wire::EventQuery>(CUDA_ERROR_NOT_READY);
  CHECK(event_query(event) == CUDA_ERROR_NOT_READY);
  CHECK(event_query(event) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::EventQuery>() == 2);
}

TEST_CASE("the time between two events is asked once") {
  Fixture f;
  CUevent start, end;
  REQUIRE(event_create(&start, 0) == CUDA_SUCCESS);
  REQUIRE(event_create(&end, 0) == CUDA_SUCCESS);
  CUstream stream = make_stream();
  REQUIRE(record(start, stream) == CUDA_SUCCESS);
  REQUIRE(record(end, stream) == CUDA_SUCCESS);
  float time = 0;
  REQUIRE(event_elapsed_time(&time, start, end) == CUDA_SUCCESS);
  REQUIRE(event_elapsed_time(&time, start, end) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::EventElapsedTime>() == 1);
  REQUIRE(record(end, stream) == CUDA_SUCCESS);
  REQUIRE(event_elapsed_time(&time, start, end) == CUDA_SUCCESS);
  CHECK(f.session->count<wire::EventElapsedTime>() == 2);
}

TEST_CASE("creating and destroying streams and events costs no round trip") {
  Fixture f;
  const auto before = f.session->round_trips;
  for (int i = 0; i < 10; ++i) {
    CUstream stream = make_stream();
    CUevent event = make_event();
    REQUIRE(record(event, stream) == CUDA_SUCCESS);
    REQUIRE(stream_wait_event(nullptr, event, 0) == CUDA_SUCCESS);
    REQUIRE(event_destroy(event) == CUDA_SUCCESS);
    REQUIRE(stream_destroy(stream) == CUDA_SUCCESS);
  }
  CHECK(f.session->round_trips == before);
}
