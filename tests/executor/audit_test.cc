#include "executor/broker/audit.h"

#include "support/catch.h"

namespace avec::test {

using broker::audit_value;

TEST_CASE("a value of an audit line is one value, whatever a client calls itself") {
  CHECK(audit_value("laptop") == "laptop");
  CHECK(audit_value("192.0.2.7:4000") == "192.0.2.7:4000");
  CHECK(audit_value("") == "\"\"");
  CHECK(audit_value("-") == "\"-\"");
  CHECK(audit_value("a b") == "\"a b\"");
  CHECK(audit_value("a=b") == "\"a=b\"");
  CHECK(audit_value("x\" identity=\"root\\") == "\"x\\\" identity=\\\"root\\\\\"");
  CHECK(audit_value("a\nb\x7f") == "\"a?b?\"");
  CHECK(audit_value(std::string(256, 'a')) == std::string(256, 'a'));
  CHECK(audit_value(std::string(257, 'a')) == "\"" + std::string(256, 'a') + "...\"");
}

TEST_CASE("what is not known of a session is not called zero") {
  broker::AuditRecord record;
  record.identity = "token";
  record.calls = 0;
  const std::string line = broker::audit_line(record);
  CHECK(line.starts_with("audit session="));
  CHECK(line.find(" identity=token ") != std::string::npos);
  CHECK(line.find(" calls=0 bytes_in=- bytes_out=- ") != std::string::npos);
}

}  // namespace avec::test
