// Passes over the rows of a bfloat16 matrix, outside of attention: what they are for stands in norms.py and
// scoring/log_sums.py.

#include "numbers.h"

#include <cmath>

namespace {

constexpr int64_t WORTH_THREADS = 1 << 15;  // numbers
constexpr int64_t SUMMED_AT_ONCE = 1 << 11;  // by float32; those sums by float64

INLINE uint16_t halved(float x) {
    uint16_t half;
    store(&half, x);
    return half;
}

FOR_EACH_PROCESSOR void normalize(const uint16_t* x, const uint16_t* weight, uint16_t* normed, int64_t width,
                                  float epsilon) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) squares += widened(x[i]) * widened(x[i]);
    const float scale = 1.0f / std::sqrt(squares / width + epsilon);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i)
        normed[i] = halved(widened(weight[i]) * widened(halved(widened(x[i]) * scale)));
}

// The bits of a bfloat16 as a number that is larger where it is, and back. What NaN is there does not matter: the sum has
// it too.
INLINE int32_t in_order(int32_t bits) { return bits ^ (bits >> 31 & 0x7fff); }

FOR_EACH_PROCESSOR double log_sum(const uint16_t* x, int64_t width) {
    int32_t largest = INT16_MIN;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < width; ++i) largest = std::max(largest, in_order(int16_t(x[i])));
    const float top = widened(uint16_t(in_order(largest)));
    double sum = 0;
    for (int64_t begin = 0; begin < width; begin += SUMMED_AT_ONCE) {
        const int64_t end = std::min(begin + SUMMED_AT_ONCE, width);
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = begin; i < end; ++i) part += power_of_two((widened(x[i]) - top) * LOG2_E);
        sum += part;
    }
    return top + std::log(sum);
}

}  // namespace

// RMSNorm: x and normed are contiguous [rows, width], weight is [width]; rounded before the weight and after it.
extern "C" void rms_norm(const uint16_t* x, const uint16_t* weight, uint16_t* normed, int64_t rows, int64_t width,
                         float epsilon) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row) normalize(x + row * width, weight, normed + row * width, width, epsilon);
}

// sums[r] is the logarithm of the sum of the exponentials of row r of x, contiguous [rows, width]; NaN where all of them
// are -inf.
extern "C" void log_sums(const uint16_t* x, double* sums, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > WORTH_THREADS)
    for (int64_t row = 0; row < rows; ++row) sums[row] = log_sum(x + row * width, width);
}
