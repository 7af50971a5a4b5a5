// Loads a library that uses CUDA, without knowing that it does; twice, unloading it in between.
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char** words) {
  if (count != 2) return 2;
  for (int i = 0; i < 2; ++i) {
    void* plugin = dlopen(words[1], RTLD_NOW);
    if (plugin == NULL) {
      puts(dlerror());
      return 1;
    }
    int (*compute)(void) = (int (*)(void))dlsym(plugin, "compute");
    const int result = compute != NULL ? compute() : 0;
    if (result != 73) {
      printf("wrong: %d\n", result);
      return 1;
    }
    dlclose(plugin);
  }
  puts("passed");
  return 0;
}
