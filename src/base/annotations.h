// Clang's thread safety annotations (-Wthread-safety); nothing on other compilers.
#pragma once

#if defined(__clang__)
#define AVEC_ANNOTATION(x) __attribute__((x))
#else
#define AVEC_ANNOTATION(x)
#endif

#define AVEC_CAPABILITY(name) AVEC_ANNOTATION(capability(name))
#define AVEC_SCOPED_CAPABILITY AVEC_ANNOTATION(scoped_lockable)
#define AVEC_GUARDED_BY(lock) AVEC_ANNOTATION(guarded_by(lock))
#define AVEC_REQUIRES(...) AVEC_ANNOTATION(requires_capability(__VA_ARGS__))
#define AVEC_EXCLUDES(...) AVEC_ANNOTATION(locks_excluded(__VA_ARGS__))
#define AVEC_ACQUIRES(...) AVEC_ANNOTATION(acquire_capability(__VA_ARGS__))
#define AVEC_RELEASES(...) AVEC_ANNOTATION(release_capability(__VA_ARGS__))
/// For a function whose locking depends on its result.
#define AVEC_UNCHECKED_LOCKING AVEC_ANNOTATION(no_thread_safety_analysis)
