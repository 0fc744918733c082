// The pass over a block's bfloat16 scores between its two products: what it is for stands in prefill/window_weights.py.
//
// Plain C++ of which compilers make vector instructions.

#include "numbers.h"

namespace {

constexpr int64_t ROWS_AT_ONCE = 16;
constexpr int64_t WORTH_THREADS = 1 << 15;  // scores

// 2^x to 3e-6 of itself for -125 <= x < 127.5. Less is taken for -125, of more comes more than 2^120, and NaN stays NaN.
INLINE float rough_power_of_two(float x) {
    constexpr float NO_FRACTION = 12582912.0f;  // 1.5 * 2^23: a sum with it is whole
    x = x < -125.0f ? -125.0f : x;
    const float shifted = x + NO_FRACTION;
    const float f = x - (shifted - NO_FRACTION);
    const uint32_t exponent = std::min(as_bits(shifted) - as_bits(NO_FRACTION) + 127, 254u);
    // Fitted to 2^f on [-1/2, 1/2], at Chebyshev's nodes.
    const float p = 0.99999919f + f * (0.69312197f + f * (0.24024981f + f * (0.055917039f + f * 0.0095605102f)));
    return p * as_float(exponent << 23);
}

// A bfloat16 in the upper half, and nothing in the lower.
INLINE uint32_t rounded(float x) { return (as_bits(x) + 0x8000u) & 0xffff0000u; }

// Two at a time, as halves of 32 bits, so that none has to be moved to be widened or narrowed. Returns their sum.
INLINE float weigh(uint16_t* scores, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count / 2; ++i) {
        uint32_t pair;
        std::memcpy(&pair, scores + 2 * i, sizeof pair);
        const uint32_t lower = rounded(rough_power_of_two(as_float(pair << 16)));
        const uint32_t upper = rounded(rough_power_of_two(as_float(pair & 0xffff0000u)));
        sum += as_float(lower) + as_float(upper);
        pair = lower >> 16 | upper;
        std::memcpy(scores + 2 * i, &pair, sizeof pair);
    }
    if (count % 2) {
        const uint32_t last = rounded(rough_power_of_two(as_float(uint32_t(scores[count - 1]) << 16)));
        scores[count - 1] = last >> 16;
        sum += as_float(last);
    }
    return sum;
}

struct Window {
    int64_t columns, queries, oldest, newest;
};

FOR_EACH_PROCESSOR void weigh_rows(uint16_t* scores, float* sums, int64_t begin, int64_t end, Window window) {
    for (int64_t row = begin; row < end; ++row) {
        uint16_t* const row_scores = scores + row * window.columns;
        const int64_t query = row % window.queries;
        const int64_t after = std::max<int64_t>(0, std::min(window.columns, window.newest + query));
        const int64_t oldest = std::min(after, std::max<int64_t>(0, window.oldest + query));
        std::fill(row_scores, row_scores + oldest, 0);
        std::fill(row_scores + after, row_scores + window.columns, 0);
        sums[row] = weigh(row_scores + oldest, after - oldest);
    }
}

}  // namespace

// scores: contiguous [rows, columns], to be written over. Row r is of query r % queries; query q has in its window the
// columns oldest + q .. newest + q - 1, of those that there are. sums: [rows].
extern "C" void weigh_window(uint16_t* scores, float* sums, int64_t rows, int64_t columns, int64_t queries,
                             int64_t oldest, int64_t newest) {
    const Window window{columns, queries, oldest, newest};
#pragma omp parallel for schedule(static) if (rows * columns > WORTH_THREADS)
    for (int64_t row = 0; row < rows; row += ROWS_AT_ONCE)
        weigh_rows(scores, sums, row, std::min(row + ROWS_AT_ONCE, rows), window);
}
