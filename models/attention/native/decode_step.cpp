// One decoded token in one layer, from the projected query, key and value to the output: decode/compiled_step.py.
//
// The keys of a window are read once, and so are its values: a thread has some keys of a head at a time, for all query
// heads that share them, and what the threads have found is joined by log-sum-exp.

#include "numbers.h"

#include <omp.h>
#include <vector>

namespace {

constexpr int LANES = 16;
constexpr int64_t KEYS_AT_ONCE = 8 * LANES;
constexpr int64_t PIECES_PER_THREAD = 2;
constexpr float NONE = -1e30f;  // a score of no key

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Places __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

INLINE Vector load(const float* x) {
    Vector loaded;
    std::memcpy(&loaded, x, sizeof loaded);
    return loaded;
}

INLINE Vector load(const uint16_t* x) {  // bfloat16
    Halves halves;
    std::memcpy(&halves, x, sizeof halves);
    const Words words = __builtin_convertvector(halves, Words) << 16;
    return (Vector)words;
}

// The lanes of a and b, one behind the other, at these places.
INLINE Vector chosen(Vector a, Vector b, Places places) {
#if defined(__clang__)
    Vector result;
    for (int lane = 0; lane < LANES; ++lane)
        result[lane] = places[lane] < LANES ? a[places[lane]] : b[places[lane] - LANES];
    return result;
#else
    return __builtin_shuffle(a, b, places);
#endif
}

// Rows 0 to HALF - 1 and HALF to 2 * HALF - 1 folded into one: lanes that were added up stand side by side.
template <int HALF>
INLINE void fold(Vector rows[LANES]) {
    Places first, second;
    for (int lane = 0; lane < LANES; ++lane) {
        const int own = lane % (2 * HALF) < HALF ? lane : lane - HALF + LANES;
        first[lane] = own;
        second[lane] = own + HALF;
    }
#pragma GCC unroll 8
    for (int row = 0; row < HALF; ++row)
        rows[row] = chosen(rows[row], rows[row + HALF], first) + chosen(rows[row], rows[row + HALF], second);
}

// Lane i of the result is the sum of the lanes of rows[i].
INLINE Vector sums_of(Vector rows[LANES]) {
    fold<8>(rows);
    fold<4>(rows);
    fold<2>(rows);
    fold<1>(rows);
    return rows[0];
}

// Add `count` rows `[count, width]`, each times its weight, to sums * kept: VECTORS of their features, so that as many
// sums are under way at once.
template <int VECTORS, class T>
INLINE void add_weighted(const T* rows, int64_t width, const float* weights, int64_t count, float kept, float* sums) {
    Vector sum[VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; ++i) sum[i] = load(sums + i * LANES) * kept;
    for (int64_t k = 0; k < count; ++k)
#pragma GCC unroll 8
        for (int i = 0; i < VECTORS; ++i) sum[i] += weights[k] * load(rows + k * width + i * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < VECTORS; ++i) std::memcpy(sums + i * LANES, &sum[i], sizeof sum[i]);
}

template <class T>
struct Step {
    const T *query, *key, *value;          // [B, Hq, d], [B, Hkv, d], [B, Hkv, v]
    T *keys, *values;                      // the ring, [B, Hkv, C, d] and [B, Hkv, C, v]
    const T *sink_keys, *sink_values;      // [B, Hkv, S, d] and [B, Hkv, S, v]
    const float *cos, *sin;                // [Hq + Hq + Hkv, d]: of near and far queries, scaled, and of the key
    const int64_t* swapped;                // [d], the other feature of each pair
    const float* learned;                  // [Hq], a score that weighs nothing; null without
    T* output;                             // [B, Hq, v]
    int64_t batch, key_heads, group, width, value_width, ring, stored_sinks, slot, slots, sinks;

    int64_t query_heads() const { return key_heads * group; }
};

// What some queries found at some keys: the highest score, in bits, and sums of weights and of weighted values.
struct Found {
    float *highest, *total, *weighted;  // [group], [group], [group, v]
};

template <class T>
INLINE void turn(const Step<T>& step, const T* x, int64_t row, float scale, float* turned) {
    const float *cos = step.cos + row * step.width, *sin = step.sin + row * step.width;
    for (int64_t i = 0; i < step.width; ++i)
        turned[i] = (widened(x[i]) * cos[i] + widened(x[step.swapped[i]]) * sin[i]) * scale;
}

template <class T>
INLINE void attend(
    const Step<T>& step, const float* queries, const T* keys, const T* values, int64_t begin, int64_t end, Found found) {
    float scores[KEYS_AT_ONCE];
    for (int64_t first = begin; first < end; first += KEYS_AT_ONCE) {
        const int64_t count = std::min(KEYS_AT_ONCE, end - first);
        for (int64_t q = 0; q < step.group; ++q) {
            const float* query = queries + q * step.width;
            float highest = found.highest[q];
            for (int64_t some = 0; some < count; some += LANES) {
                Vector rows[LANES];
                for (int lane = 0; lane < LANES; ++lane) {
                    const T* key = keys + (first + std::min(some + lane, count - 1)) * step.width;
                    Vector sum = load(query) * load(key);
                    for (int64_t i = LANES; i < step.width; i += LANES) sum += load(query + i) * load(key + i);
                    rows[lane] = sum;
                }
                const Vector sums = sums_of(rows);
                std::memcpy(scores + some, &sums, sizeof sums);
            }
            for (int64_t k = 0; k < count; ++k) highest = scores[k] > highest ? scores[k] : highest;
            const float kept = power_of_two(found.highest[q] - highest);
            float total = 0;
#pragma omp simd reduction(+ : total)
            for (int64_t k = 0; k < count; ++k) {
                scores[k] = power_of_two(scores[k] - highest);
                total += scores[k];
            }
            found.highest[q] = highest;
            found.total[q] = found.total[q] * kept + total;
            float* weighted = found.weighted + q * step.value_width;
            const T* rows = values + first * step.value_width;
            int64_t i = 0;
            for (; i + 4 * LANES <= step.value_width; i += 4 * LANES)
                add_weighted<4>(rows + i, step.value_width, scores, count, kept, weighted + i);
            for (; i < step.value_width; i += LANES)
                add_weighted<1>(rows + i, step.value_width, scores, count, kept, weighted + i);
        }
    }
}

// Some keys of a head, for all queries that share it; piece 0 has the first tokens, too.
template <class T>
INLINE void attend_piece(const Step<T>& step, const float* turned, int64_t head, int64_t piece, int64_t pieces, Found found) {
    const int64_t row = head / step.key_heads, own = head % step.key_heads;
    const float* near = turned + (row * 2 * step.query_heads() + own * step.group) * step.width;
    const int64_t at_once = (step.slots + pieces - 1) / pieces;
    const int64_t begin = std::min(step.slots, piece * at_once), end = std::min(step.slots, begin + at_once);
    for (int64_t q = 0; q < step.group; ++q) {
        found.highest[q] = NONE;
        found.total[q] = 0;
    }
    std::fill(found.weighted, found.weighted + step.group * step.value_width, 0.0f);
    const T *keys = step.keys + head * step.ring * step.width, *values = step.values + head * step.ring * step.value_width;
    attend(step, near, keys, values, begin, end, found);
    if (piece == 0 && step.sinks) {
        const float* far = near + step.query_heads() * step.width;
        const T* sink_keys = step.sink_keys + head * step.stored_sinks * step.width;
        attend(step, far, sink_keys, step.sink_values + head * step.stored_sinks * step.value_width, 0, step.sinks, found);
    }
}

template <class T>
INLINE void join(const Step<T>& step, int64_t head, int64_t pieces, const std::vector<Found>& found) {
    const int64_t own = head % step.key_heads;
    for (int64_t q = 0; q < step.group; ++q) {
        const float learned = step.learned ? step.learned[own * step.group + q] * LOG2_E : NONE;
        float highest = learned, total = 0;
        for (int64_t piece = 0; piece < pieces; ++piece)
            highest = std::max(highest, found[head * pieces + piece].highest[q]);
        if (step.learned) total = power_of_two(learned - highest);
        for (int64_t piece = 0; piece < pieces; ++piece) {
            const Found& part = found[head * pieces + piece];
            total += part.total[q] * power_of_two(part.highest[q] - highest);
        }
        T* output = step.output + (head * step.group + q) * step.value_width;
        for (int64_t i = 0; i < step.value_width; ++i) {
            float sum = 0;
            for (int64_t piece = 0; piece < pieces; ++piece) {
                const Found& part = found[head * pieces + piece];
                sum += part.weighted[q * step.value_width + i] * power_of_two(part.highest[q] - highest);
            }
            store(output + i, sum / total);
        }
    }
}

// Turn queries and key, and put key and value into the ring. turned: [B, 2, Hq, d].
template <class T>
INLINE void begin(const Step<T>& step, float* turned) {
    const int64_t heads = step.query_heads();
    std::vector<float> key(step.width);
    for (int64_t row = 0; row < step.batch; ++row) {
        for (int64_t far = 0; far < 2; ++far)
            for (int64_t head = 0; head < heads; ++head) {
                const T* query = step.query + (row * heads + head) * step.width;
                turn(step, query, far * heads + head, LOG2_E, turned + ((row * 2 + far) * heads + head) * step.width);
            }
        for (int64_t head = 0; head < step.key_heads; ++head) {
            const int64_t stored = row * step.key_heads + head;
            turn(step, step.key + stored * step.width, 2 * heads + head, 1.0f, key.data());
            T* place = step.keys + (stored * step.ring + step.slot) * step.width;
            for (int64_t i = 0; i < step.width; ++i) store(place + i, key[i]);
            const T* value = step.value + stored * step.value_width;
            std::copy(value, value + step.value_width, step.values + (stored * step.ring + step.slot) * step.value_width);
        }
    }
}

FOR_EACH_PROCESSOR void begin_for(const Step<float>& step, float* turned) { begin(step, turned); }
FOR_EACH_PROCESSOR void begin_for(const Step<uint16_t>& step, float* turned) { begin(step, turned); }
FOR_EACH_PROCESSOR void attend_for(const Step<float>& s, const float* t, int64_t h, int64_t p, int64_t n, Found f) {
    attend_piece(s, t, h, p, n, f);
}
FOR_EACH_PROCESSOR void attend_for(const Step<uint16_t>& s, const float* t, int64_t h, int64_t p, int64_t n, Found f) {
    attend_piece(s, t, h, p, n, f);
}
FOR_EACH_PROCESSOR void join_for(const Step<float>& s, int64_t h, int64_t n, const std::vector<Found>& f) {
    join(s, h, n, f);
}
FOR_EACH_PROCESSOR void join_for(const Step<uint16_t>& s, int64_t h, int64_t n, const std::vector<Found>& f) {
    join(s, h, n, f);
}

template <class T>
void decode(const Step<T>& step) {
    const int64_t heads = step.batch * step.key_heads, threads = omp_get_max_threads();
    const int64_t wanted = (PIECES_PER_THREAD * threads + heads - 1) / heads;
    const int64_t pieces = std::max<int64_t>(1, std::min(wanted, step.slots / KEYS_AT_ONCE));
    const int64_t size = step.group * (2 + step.value_width);
    std::vector<float> turned(step.batch * 2 * step.query_heads() * step.width), memory(heads * pieces * size);
    std::vector<Found> found(heads * pieces);
    for (int64_t i = 0; i < heads * pieces; ++i) {
        float* own = memory.data() + i * size;
        found[i] = {own, own + step.group, own + 2 * step.group};
    }
    begin_for(step, turned.data());
#pragma omp parallel for schedule(dynamic) if (step.slots >= 2 * KEYS_AT_ONCE)
    for (int64_t i = 0; i < heads * pieces; ++i)
        attend_for(step, turned.data(), i / pieces, i % pieces, pieces, found[i]);
    for (int64_t head = 0; head < heads; ++head) join_for(step, head, pieces, found);
}

}  // namespace

// pointers: query, key, value, keys, values, sink_keys, sink_values, cos, sin, swapped, learned, output. sizes: batch,
// key_heads, group, width, value_width, ring, stored_sinks, slot, slots, sinks; widths are multiples of 16. All of it as
// Step has it. The token's key is turned and put into its slot, which is one of the `slots` that are attended to.
extern "C" void decode_step(void* const* p, const int64_t* n, int64_t is_half) {
#define STEP(T)                                                                                                        \
    Step<T> {                                                                                                          \
        (const T*)p[0], (const T*)p[1], (const T*)p[2], (T*)p[3], (T*)p[4], (const T*)p[5], (const T*)p[6],            \
            (const float*)p[7], (const float*)p[8], (const int64_t*)p[9], (const float*)p[10], (T*)p[11], n[0], n[1],  \
            n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]                                                             \
    }
    if (is_half)
        decode(STEP(uint16_t));
    else
        decode(STEP(float));
}
