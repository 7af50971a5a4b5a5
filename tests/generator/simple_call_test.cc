// The generated entry points over a session without a wire.
#include "client/context.h"
#include "client/fake_session.h"
#include "support/catch.h"

using namespace avec;
using test::Fixture;

TEST_CASE("a generated posted call names the current context and does not wait") {
  Fixture f;
  const auto before = f.session->round_trips;
  CHECK(cuCtxSetSharedMemConfig(CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE) == CUDA_SUCCESS);
  CHECK(cuCtxResetPersistingL2Cache() == CUDA_SUCCESS);
  CHECK(f.session->round_trips == before);
  const auto set = f.session->frames<wire::ContextSetSharedMemConfig>();
  REQUIRE(set.size() == 1);
  const auto body = set[0].as<wire::ContextSetSharedMemConfig>();
  CHECK(body.config() == CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE);
  CHECK(body.reserved() == 0);
  CHECK(body.context() == client::find_context(f.context)->name.load());
  CHECK(f.session->count<wire::ContextResetPersistingL2>() == 1);
}

TEST_CASE("a generated synchronous call refuses a null result and passes the executor's error on") {
  Fixture f;
  CHECK(cuCtxGetSharedMemConfig(nullptr) == CUDA_ERROR_INVALID_VALUE);
  CHECK(f.session->count<wire::ContextGetSharedMemConfig>() == 0);
  CUsharedconfig config{};
  f.session->fail_next<wire::ContextGetSharedMemConfig>(CUDA_ERROR_NOT_SUPPORTED);
  CHECK(cuCtxGetSharedMemConfig(&config) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(f.session->count<wire::ContextGetSharedMemConfig>() == 1);
}

TEST_CASE("a generated call without a current context sends nothing") {
  Fixture f;
  CUcontext popped = nullptr;
  REQUIRE(client::context_pop(&popped) == CUDA_SUCCESS);
  CHECK(cuCtxResetPersistingL2Cache() != CUDA_SUCCESS);
  CHECK(f.session->count<wire::ContextResetPersistingL2>() == 0);
  REQUIRE(client::context_push(popped) == CUDA_SUCCESS);
}
