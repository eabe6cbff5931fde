// Loops written for the compiler to vectorise, compiled once for each vector width and chosen when
// the program starts.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define QUENCH_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define QUENCH_SIMD
#endif

// A part of such a loop.
#define QUENCH_INLINE inline __attribute__((always_inline))
