// cuDNN's graph API as frontends use it: tensors, an operation, its graph, heuristics, a plan; then
// executions, each with a new variant pack. Runs over fake_cudnn.cc (cudnn_graph_test.py), whose one
// operation is y = value * x.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kInt64 = 3, kPointer = 6, kDescriptor = 15, kDataType = 1, kBoolean = 2;
constexpr int kTensor = 17, kOperation = 13, kGraph = 15, kHeuristics = 4, kConfig = 3, kPlan = 5, kPack = 16;

void* symbol(const std::string& name) {
  static void* const runtime = dlopen("libcudart.so.13", RTLD_NOW);
  static void* const cudnn = dlopen("libcudnn.so.9", RTLD_NOW);
  void* found = dlsym(name.compare(0, 5, "cudnn") == 0 ? cudnn : runtime, name.c_str());
  if (found == nullptr) {
    std::fprintf(stderr, "%s is missing: %s\n", name.c_str(), dlerror());
    std::exit(1);
  }
  return found;
}

template <class... Args>
int status_of(const std::string& name, Args... args) {
  return reinterpret_cast<int (*)(Args...)>(symbol(name))(args...);
}

template <class... Args>
void call(const std::string& name, Args... args) {
  if (const int status = status_of(name, args...); status != 0) {
    std::fprintf(stderr, "%s: status %d\n", name.c_str(), status);
    std::exit(1);
  }
}

void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

void* handle = nullptr;

void* create(int type) {
  void* made = nullptr;
  call("cudnnBackendCreateDescriptor", type, &made);
  return made;
}
template <class T>
void set(void* descriptor, int name, int type, const std::vector<T>& values) {
  call("cudnnBackendSetAttribute", descriptor, name, type, static_cast<std::int64_t>(values.size()),
       static_cast<const void*>(values.data()));
}
void* finalized(void* descriptor) {
  call("cudnnBackendFinalize", descriptor);
  return descriptor;
}

void* tensor(std::int64_t name, int type, std::vector<std::int64_t> dims, bool by_value) {
  void* made = create(kTensor);
  set<int>(made, 901, kDataType, {type});
  set(made, 902, kInt64, dims);
  set<std::int64_t>(made, 906, kInt64, {name});
  set<char>(made, 908, kBoolean, {static_cast<char>(by_value)});
  return made;
}

/// Everything that leads to a plan, descriptors ended as they are no longer needed.
void* build_plan() {
  void* const x = finalized(tensor(1, 0, {1, 8, 1, 1}, false));
  void* const factor = finalized(tensor(2, 1, {1, 1, 1, 1}, true));
  void* const y = finalized(tensor(3, 0, {1, 8, 1, 1}, false));
  void* const operation = create(kOperation);
  set<void*>(operation, 751, kDescriptor, {x});
  set<void*>(operation, 752, kDescriptor, {factor});
  set<void*>(operation, 753, kDescriptor, {y});
  finalized(operation);
  void* const graph = create(kGraph);
  set<void*>(graph, 800, 0, {handle});
  set<void*>(graph, 801, kDescriptor, {operation});
  finalized(graph);
  void* const heuristics = create(kHeuristics);
  set<void*>(heuristics, 201, kDescriptor, {graph});
  finalized(heuristics);
  std::vector<void*> configs{create(kConfig), create(kConfig), create(kConfig)};
  std::int64_t count = 0;
  call("cudnnBackendGetAttribute", heuristics, 202, kDescriptor, std::int64_t{3}, &count,
       static_cast<void*>(configs.data()));
  expect(count == 2, "two engines are proposed");
  void* const plan = create(kPlan);
  set<void*>(plan, 400, 0, {handle});
  set<void*>(plan, 401, kDescriptor, {configs[0]});
  finalized(plan);
  std::int64_t workspace = 0;
  call("cudnnBackendGetAttribute", plan, 402, kInt64, std::int64_t{1}, &count,
       static_cast<void*>(&workspace));
  expect(workspace == 4096, "the plan's workspace is known");
  configs.insert(configs.end(), {x, factor, y, operation, graph, heuristics});
  for (void* one : configs) call("cudnnBackendDestroyDescriptor", one);
  return plan;
}

int execute(void* plan, const float* x, const double* factor, float* y) {
  void* const pack = create(kPack);
  set<const void*>(pack, 1001, kPointer, {x, factor, y});
  set<std::int64_t>(pack, 1000, kInt64, {1, 2, 3});
  set<const void*>(pack, 1003, kPointer, {nullptr});
  finalized(pack);
  const int status = status_of("cudnnBackendExecute", handle, plan, pack);
  call("cudnnBackendDestroyDescriptor", pack);
  return status;
}

/// Matrices of a recurrent network: asked once, the same from memory.
void weights() {
  void *network = nullptr, *matrix = nullptr, *bias = nullptr;
  call("cudnnCreateRNNDescriptor", &network);
  call("cudnnCreateTensorDescriptor", &matrix);
  call("cudnnCreateTensorDescriptor", &bias);
  char* const begin = reinterpret_cast<char*>(0x1234000);
  for (int round = 0; round < 3; ++round) {
    for (int linear = 0; linear < 4; ++linear) {
      char *found = nullptr, *with = nullptr;
      call("cudnnGetRNNWeightParams", handle, network, 1, std::size_t{8192}, begin, linear, matrix, &found,
           bias, &with);
      expect(found == begin + (4 + linear) * 60, "a matrix lies where it should");
      expect(with == (linear == 3 ? nullptr : begin + 4096), "a bias lies where it should");
      int type = -1, count = 0, dims[3] = {}, strides[3] = {};
      call("cudnnGetTensorNdDescriptor", matrix, 3, &type, &count, dims, strides);
      expect(count == 3 && dims[1] == 3 && dims[2] == 5 && strides[0] == 15, "a matrix has its shape");
    }
  }
}

/// Two descriptors of one content are one on the executor, until cuDNN itself changes one.
void shared_tensors() {
  const int dims[] = {2, 6, 7}, strides[] = {42, 7, 1};
  void* tensors[2] = {};
  for (void*& one : tensors) {
    call("cudnnCreateTensorDescriptor", &one);
    call("cudnnSetTensorNdDescriptor", one, 0, 3, dims, strides);
  }
  call("cudnnDeriveBNTensorDescriptor", tensors[1], tensors[0], 1);
  const int expected[] = {2, 1};
  for (int i = 0; i < 2; ++i) {
    int type = -1, count = 0, found[3] = {}, steps[3] = {};
    call("cudnnGetTensorNdDescriptor", tensors[i], 3, &type, &count, found, steps);
    expect(count == 3 && found[0] == expected[i] && found[1] == 6, "each descriptor is what it was set to");
  }
  call("cudnnDestroyTensorDescriptor", tensors[0]);
  expect(status_of("cudnnDestroyTensorDescriptor", tensors[0]) == 2000, "a descriptor ends once");
  call("cudnnSetTensorNdDescriptor", tensors[1], 0, 3, dims, strides);
  call("cudnnDestroyTensorDescriptor", tensors[1]);
}

}  // namespace

int main() {
  call("cudnnCreate", &handle);
  expect(reinterpret_cast<std::size_t (*)()>(symbol("cudnnGetVersion"))() == 91234,
         "the version is the executor's");
  float *x = nullptr, *y = nullptr;
  call("cudaMalloc", &x, sizeof(float) * 8);
  call("cudaMalloc", &y, sizeof(float) * 8);
  const float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  call("cudaMemcpy", x, in, sizeof in, 1);
  void* const odd = tensor(4, 0, {1, 8, 1}, false);
  expect(status_of("cudnnBackendFinalize", odd) == 3000, "what is not supported is told at once");
  void* const first = build_plan();
  void* const plan = build_plan();
  call("cudnnBackendDestroyDescriptor", first);
  float out[8] = {};
  double factor = 0;
  for (int i = 0; i < 100; ++i) {
    factor = i % 5;
    expect(execute(plan, x, &factor, y) == 0, "a plan is executed");
    factor = -7;  // the value has been taken
    if (i % 25 != 24) continue;
    call("cudaMemcpy", out, y, sizeof out, 2);
    for (int k = 0; k < 8; ++k) expect(out[k] == in[k] * static_cast<float>(i % 5), "the result is right");
  }
  weights();
  shared_tensors();
  std::printf("passed\n");
  return 0;
}
