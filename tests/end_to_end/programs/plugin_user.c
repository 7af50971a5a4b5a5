// Linked with a library that uses CUDA: its constructors run before the program's.
#include <stdio.h>

int compute(void);

int main(void) {
  const int result = compute();
  if (result != 73) {
    printf("wrong: %d\n", result);
    return 1;
  }
  puts("passed");
  return 0;
}
