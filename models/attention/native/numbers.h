// What the passes of this folder share.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

// Once per kind of processor: the best that this one has is run.
#if defined(__x86_64__) && defined(__GNUC__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#define INLINE inline __attribute__((always_inline))  // into the version of each processor

INLINE float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t as_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

constexpr float LOG2_E = 1.44269504f;

INLINE float widened(float x) { return x; }
INLINE float widened(uint16_t x) { return as_float(uint32_t(x) << 16); }

INLINE void store(float* place, float x) { *place = x; }
INLINE void store(uint16_t* place, float x) {  // to the nearest, ties to even, as torch rounds
    const uint32_t bits = as_bits(x);
    *place = x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// 2^x for x <= 0, to float32's rounding: Taylor's series of 2^f on [-1/2, 1/2]. Below -125 it is nearly nothing.
INLINE float power_of_two(float x) {
    constexpr float NO_FRACTION = 12582912.0f;  // 1.5 * 2^23: a sum with it is whole
    x = x < -125.0f ? -125.0f : x;
    const float shifted = x + NO_FRACTION;
    const float f = x - (shifted - NO_FRACTION);
    float p = 1.5252734e-5f;
    p = p * f + 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return p * as_float((as_bits(shifted) - as_bits(NO_FRACTION) + 127) << 23);
}
