// What a process may do around its CUDA calls: fork, threads, signals, limits, ends. One case each, by name.
#define _GNU_SOURCE
#include <cuda.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), _exit(1))
#define CHECK(condition) ((condition) ? (void)0 : FAIL("%s:%d: %s", __FILE__, __LINE__, #condition))
#define OK(call)                                                                  \
  do {                                                                            \
    const CUresult result_ = (call);                                              \
    if (result_ != CUDA_SUCCESS) FAIL("%s:%d: %s: %d", __FILE__, __LINE__, #call, result_); \
  } while (0)

extern char** environ;
static char* self;
static CUcontext context;

static void begin(void) {
  OK(cuInit(0));
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
}

/// Uses most of what a session has; the number must come back.
static void use(unsigned number) {
  CUdeviceptr memory;
  CUstream stream;
  CUevent event;
  unsigned seen = 0;
  OK(cuCtxSetCurrent(context));
  OK(cuMemAlloc(&memory, 64));
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  OK(cuMemsetD32Async(memory, number, 16, stream));
  OK(cuEventRecord(event, stream));
  CUresult ready;
  while ((ready = cuEventQuery(event)) == CUDA_ERROR_NOT_READY) {
  }
  OK(ready);
  OK(cuMemcpyDtoHAsync(&seen, memory + 60, 4, stream));
  OK(cuStreamSynchronize(stream));
  if (seen != number) FAIL("%u instead of %u", seen, number);
  OK(cuEventDestroy(event));
  OK(cuStreamDestroy(stream));
  OK(cuMemFree(memory));
}

static int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int count_entries(const char* folder, const char* prefix) {
  DIR* dir = opendir(folder);
  CHECK(dir != NULL);
  int found = 0;
  struct dirent* entry;
  while ((entry = readdir(dir)) != NULL) {
    char path[600], target[256] = "";
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (prefix != NULL && readlink(path, target, sizeof target - 1) < 0) continue;
    if (prefix == NULL || strncmp(target, prefix, strlen(prefix)) == 0) ++found;
  }
  closedir(dir);
  return found;
}

// ---- fork and exec -------------------------------------------------------------------

static void fork_before_the_first_call(void) {
  const pid_t child = fork();
  begin();
  use(child == 0 ? 1 : 2);
  if (child == 0) exit(0);
  CHECK(wait_for(child) == 0);
  use(3);
}

static void child_has_no_session(void) {
  CUdeviceptr memory = 0;
  CUcontext current = NULL;
  CUevent event = NULL;
  int count = 0;
  CHECK(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuMemAlloc(&memory, 64) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuEventCreate(&event, 0) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuStreamQuery(CU_STREAM_LEGACY) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
  (void)current;
}

static void fork_after_the_first_call(void) {
  begin();
  use(1);
  CUstream stream;
  CUevent event;
  OK(cuStreamCreate(&stream, 0));
  OK(cuEventCreate(&event, 0));
  OK(cuEventRecord(event, stream));
  for (int i = 0; i < 5; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      child_has_no_session();
      CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_INITIALIZED);
      CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_NOT_INITIALIZED);
      if (i % 2 == 0) _exit(0);
      exit(0);
    }
    use(10 + i);
    CHECK(wait_for(child) == 0);
  }
  OK(cuEventSynchronize(event));
  use(2);
}

static atomic_bool stop;

static void* keep_using(void* number) {
  while (!atomic_load(&stop)) use((unsigned)(size_t)number);
  return NULL;
}

static void fork_while_threads_are_in_calls(void) {
  begin();
  pthread_t threads[4];
  for (size_t i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, keep_using, (void*)(i + 100)) == 0);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      child_has_no_session();
      exit(0);
    }
    CHECK(wait_for(child) == 0);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  use(5);
}

static void children_that_exec(void) {
  begin();
  use(1);
  char* words[] = {self, "simple", NULL};
  pid_t child = fork();
  if (child == 0) execv(self, words), _exit(127);
  CHECK(wait_for(child) == 0);
  child = vfork();
  if (child == 0) execv(self, words), _exit(127);
  CHECK(wait_for(child) == 0);
  CHECK(posix_spawn(&child, self, NULL, NULL, words, environ) == 0);
  CHECK(wait_for(child) == 0);
  char command[4096];
  snprintf(command, sizeof command, "'%s' simple", self);
  const int status = system(command);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  use(2);
}

static void exec_of_the_process_itself(void) {
  begin();
  use(1);
  char* words[] = {self, "simple", NULL};
  execv(self, words);
  _exit(127);
}

static void daemon_before_the_first_call(void) {
  int pipe_ends[2];
  CHECK(pipe(pipe_ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    if (fork() != 0) _exit(0);
    close(pipe_ends[0]);
    CHECK(chdir("/") == 0);
    begin();
    use(7);
    CHECK(write(pipe_ends[1], "done", 4) == 4);
    exit(0);
  }
  close(pipe_ends[1]);
  CHECK(wait_for(child) == 0);
  char text[8] = "";
  CHECK(read(pipe_ends[0], text, 4) == 4 && strcmp(text, "done") == 0);
}

// ---- ends ----------------------------------------------------------------------------

static void at_exit_early(void) {
  CUdeviceptr memory = 0;
  const CUresult result = cuMemAlloc(&memory, 64);
  printf("registered before: %s\n", result == CUDA_ERROR_DEINITIALIZED ? "over" : "?");
}

static void at_exit_late(void) {
  use(9);
  printf("registered after: used\n");
}

static void exit_handlers_use_cuda(void) {
  atexit(at_exit_early);
  begin();
  atexit(at_exit_late);
  use(1);
  exit(0);
}

static void* exit_here(void* unused) {
  (void)unused;
  use(3);
  exit(7);
}

/// Until the process is over for CUDA.
static void* use_until_the_end(void* unused) {
  (void)unused;
  CUdeviceptr memory;
  cuCtxSetCurrent(context);
  while (cuMemAlloc(&memory, 64) == CUDA_SUCCESS && cuMemsetD32(memory, 1, 16) == CUDA_SUCCESS &&
         cuCtxSynchronize() == CUDA_SUCCESS && cuMemFree(memory) == CUDA_SUCCESS) {
  }
  for (;;) pause();
}

static void exit_from_another_thread(void) {
  begin();
  pthread_t thread;
  for (size_t i = 0; i < 3; ++i) CHECK(pthread_create(&thread, NULL, use_until_the_end, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, exit_here, NULL) == 0);
  for (;;) pause();
}

static void the_main_thread_ends_first(void) {
  begin();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, exit_here, NULL) == 0);
  pthread_exit(NULL);
}

static void quick_ends(void) {
  begin();
  use(1);
  pid_t child = fork();
  if (child == 0) quick_exit(3);
  CHECK(wait_for(child) == 3);
  quick_exit(0);
}

// ---- threads -------------------------------------------------------------------------

static void* use_once(void* number) {
  use((unsigned)(size_t)number);
  return NULL;
}

static void run_threads(int count, size_t stack_bytes) {
  pthread_t threads[256];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (stack_bytes != 0) CHECK(pthread_attr_setstacksize(&attributes, stack_bytes) == 0);
  for (int i = 0; i < count; ++i)
    CHECK(pthread_create(&threads[i], &attributes, use_once, (void*)(size_t)(i + 1)) == 0);
  for (int i = 0; i < count; ++i) pthread_join(threads[i], NULL);
}

static void many_threads_at_once(void) {
  begin();
  run_threads(256, 0);
  use(1);
}

static void* begin_in_thread(void* unused) {
  (void)unused;
  begin();
  return NULL;
}

static void threads_with_small_stacks(void) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 128 << 10) == 0);
  CHECK(pthread_create(&thread, &attributes, begin_in_thread, NULL) == 0);
  pthread_join(thread, NULL);
  run_threads(8, 64 << 10);
}

static void threads_that_are_cancelled(void) {
  begin();
  for (int i = 0; i < 20; ++i) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, keep_using, (void*)(size_t)i) == 0);
    usleep(2000);
    CHECK(pthread_cancel(thread) == 0);
    // A call of CUDA is no place to end: the thread ends at the program's own ones, here none.
    usleep(1000);
    use(1000);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    atomic_store(&stop, false);
  }
  use(4);
}

static void nothing_before_the_first_call(void) {
  CHECK(count_entries("/proc/self/task", NULL) == 1);
  CHECK(count_entries("/proc/self/fd", "socket:") == 0);
  const char* name = NULL;
  OK(cuGetErrorName(CUDA_ERROR_NOT_READY, &name));
  int version = 0;
  OK(cuDriverGetVersion(&version));
  CHECK(count_entries("/proc/self/task", NULL) == 1);
  CHECK(count_entries("/proc/self/fd", "socket:") == 0);
  begin();
  use(1);
}

// ---- signals -------------------------------------------------------------------------

static atomic_int alarms, children;
static void on_alarm(int number) {
  (void)number;
  atomic_fetch_add(&alarms, 1);
}
static void on_child(int number) {
  (void)number;
  const int before = errno;
  while (waitpid(-1, NULL, WNOHANG) > 0) atomic_fetch_add(&children, 1);
  errno = before;
}

static void signals_during_calls(void) {
  struct sigaction action = {.sa_handler = on_alarm};  // no SA_RESTART
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  begin();
  for (unsigned i = 0; i < 200; ++i) use(i);
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(atomic_load(&alarms) > 0);
}

static void a_handler_that_reaps_children(void) {
  struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
  begin();
  for (unsigned i = 0; i < 10; ++i) {
    if (fork() == 0) _exit(0);
    use(i);
  }
  while (atomic_load(&children) < 10) usleep(1000);
  CHECK(atomic_load(&children) == 10);
}

// ---- limits --------------------------------------------------------------------------

static void every_descriptor_is_closed_before_the_first_call(void) {
  CHECK(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
  begin();
  use(1);
}

static void every_descriptor_is_closed_later(void) {
  begin();
  use(1);
  CHECK(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
  // What the program opens now gets the numbers that were free: nothing of ours may end up in it.
  char name[] = "/tmp/avec-test-XXXXXX";
  int files[16];
  for (int i = 0; i < 16; ++i) {
    strcpy(name + strlen(name) - 6, "XXXXXX");
    files[i] = mkstemp(name);
    CHECK(files[i] >= 0 && unlink(name) == 0);
  }
  CUdeviceptr memory;
  int failed = 0;
  for (int i = 0; i < 20; ++i) failed += cuMemAlloc(&memory, 64 << 20) != CUDA_SUCCESS || cuCtxSynchronize() != CUDA_SUCCESS;
  printf("%s\n", failed > 0 ? "calls fail" : "calls go on");
  for (int i = 0; i < 16; ++i) CHECK(lseek(files[i], 0, SEEK_END) == 0);
}

static void few_descriptors(void) {
  const struct rlimit few = {4, 4};
  CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
  printf("%s\n", cuInit(0) != CUDA_SUCCESS ? "refused" : "opened");
}

static void little_address_space(void) {
  const struct rlimit little = {512ul << 20, 512ul << 20};
  CHECK(setrlimit(RLIMIT_AS, &little) == 0);
  printf("%s\n", cuInit(0) != CUDA_SUCCESS ? "refused" : "opened");
}

static void simple(void) {
  begin();
  use(1);
}

static void runs_for_a_while(void) {
  begin();
  puts("ready");
  fflush(stdout);
  for (unsigned i = 0; i < 300; ++i) {
    use(i);
    usleep(10000);
  }
}

static const struct {
  const char* name;
  void (*run)(void);
} cases[] = {
#define CASE(name) {#name, name}
    CASE(simple), CASE(runs_for_a_while), CASE(fork_before_the_first_call), CASE(fork_after_the_first_call),
    CASE(fork_while_threads_are_in_calls), CASE(children_that_exec), CASE(exec_of_the_process_itself),
    CASE(daemon_before_the_first_call), CASE(exit_handlers_use_cuda), CASE(exit_from_another_thread),
    CASE(the_main_thread_ends_first), CASE(quick_ends), CASE(many_threads_at_once), CASE(threads_with_small_stacks),
    CASE(threads_that_are_cancelled), CASE(nothing_before_the_first_call), CASE(signals_during_calls),
    CASE(a_handler_that_reaps_children), CASE(every_descriptor_is_closed_before_the_first_call),
    CASE(every_descriptor_is_closed_later), CASE(few_descriptors), CASE(little_address_space),
};

int main(int count, char** words) {
  static char path[4096];
  CHECK(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
  self = path;
  for (size_t i = 0; count == 2 && i < sizeof cases / sizeof *cases; ++i) {
    if (strcmp(cases[i].name, words[1]) != 0) continue;
    cases[i].run();
    puts("passed");
    return 0;
  }
  fprintf(stderr, "usage: host_process CASE\n");
  return 2;
}
