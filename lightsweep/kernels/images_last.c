// Convolutions of small nets, for activations that lie as [channels][height][width][images].
//
// Images are last, so that a vector register holds as many images as it has lanes: no number of channels is too
// small to fill it, weights are scalars that are broadcast, and pooling and its gradient are plain selections.
//
// Every function takes the images a vector at a time. It first copies what it reads of them into a workspace,
// padded with zeros round each map and, in the last vector, for the lanes that have no image. All arithmetic then
// runs in the workspace, without conditions; nothing outside the given arrays is read or written.
//
// Written are (x: input, w: weights, b: bias, d: gradient of the loss by what is named)
//   forward:          z[o,i,j] = b[o] + Σ_c Σ_u Σ_v w[o,c,u,v] x[c, i+u-p, j+v-p], then, if asked for,
//                     2×2 max-pooling, then ReLU
//   weight gradient:  dw[o,c,u,v] = Σ_images Σ_i Σ_j dz[o,i,j] x[c, i+u-p, j+v-p],  db[o] = Σ dz[o,i,j]
//   input gradient:   dx[c,i,j] = Σ_o Σ_u Σ_v w[o,c,u,v] dz[o, i-u+p, j-v+p]
// Convolutions have stride 1. With groups, output o reads the channels of its group alone.
//
// NaN and infinities pass as in torch: the last NaN of a window wins, else the first of equal maxima.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef DOUBLE  // for tests: gradients against finite differences
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif

#if defined(VECTOR_BYTES)  // of another processor, for tests; with REGISTERS
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#define REGISTERS 32
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define REGISTERS 16
#else
#define VECTOR_BYTES 16
#define REGISTERS 32
#endif
#define LANES ((long)(VECTOR_BYTES / sizeof(real)))
#define MOST_OUTPUTS (REGISTERS == 32 ? 6 : 3)  // of a tile: four sums each
#define MOST_SUMS (REGISTERS == 32 ? 24 : 12)   // of the weight gradient
#define MOST_TAPS 7                             // of a kernel's row that are summed at once

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef whole mask __attribute__((vector_size(VECTOR_BYTES)));
typedef int8_t bytes __attribute__((vector_size(VECTOR_BYTES / sizeof(real))));
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t channels, height, width, images;  // of the input
    int64_t outputs, groups, kernel, padding;
    int64_t pool, relu;                       // 0 or 1
} Convolution;

// Sizes in elements of the map before pooling, of the padded input, and of what is stored.
INLINE long padded(long side, const Convolution *s) { return side + 2 * s->padding; }
INLINE long mapped(long side, const Convolution *s) { return padded(side, s) - s->kernel + 1; }
INLINE long stored(long side, const Convolution *s) { return s->pool ? mapped(side, s) / 2 : mapped(side, s); }

INLINE vec load(const real *p) { return *(const vec *)p; }  // of the workspace, which is aligned
INLINE void store(real *p, vec v) { *(vec *)p = v; }
INLINE vec take(const real *p, long count) {
    vec v = {0};
    if (count == LANES) memcpy(&v, p, sizeof v);
    else memcpy(&v, p, count * sizeof(real));
    return v;
}
INLINE void put(real *p, vec v, long count) {
    if (count == LANES) memcpy(p, &v, sizeof v);
    else memcpy(p, &v, count * sizeof(real));
}
INLINE bytes take_bytes(const int8_t *p, long count) {
    bytes v = {0};
    if (count == LANES) memcpy(&v, p, sizeof v);
    else memcpy(&v, p, count);
    return v;
}
INLINE void put_bytes(int8_t *p, bytes v, long count) {
    if (count == LANES) memcpy(p, &v, sizeof v);
    else memcpy(p, &v, count);
}
INLINE vec choose(mask m, vec yes, vec no) { return (vec)((m & (mask)yes) | (~m & (mask)no)); }
INLINE mask all_of(whole value) { return (mask){0} + value; }
INLINE vec each(real value) { return value - (vec){0}; }  // not 0 + value, which turns -0 to 0 and so is computed
INLINE long least(long a, long b) { return a < b ? a : b; }

// Zeroes a map of the workspace but for what is inside it.
static void clear_round(real *to, long height, long width, long top, long left, long inner_height, long inner_width) {
    const long row = width * LANES;
    memset(to, 0, top * row * sizeof(real));
    for (long i = top; i < top + inner_height; i++) {
        memset(to + i * row, 0, left * LANES * sizeof(real));
        memset(to + i * row + (left + inner_width) * LANES, 0, (width - left - inner_width) * LANES * sizeof(real));
    }
    memset(to + (top + inner_height) * row, 0, (height - top - inner_height) * row * sizeof(real));
}

// Copies a vector of images of some maps into the workspace, with a margin of zeros round each map.
static void copy_in(const real *x, real *to, long maps, long height, long width, long margin, long images, long count) {
    const long row = (width + 2 * margin) * LANES, plane = (height + 2 * margin) * row;
    for (long m = 0; m < maps; m++, to += plane) {
        if (margin) clear_round(to, height + 2 * margin, width + 2 * margin, margin, margin, height, width);
        for (long i = 0; i < height; i++)
            for (long j = 0; j < width; j++, x += images)
                store(to + (margin + i) * row + (margin + j) * LANES, take(x, count));
    }
}

// Sums of a tile of 2×2 positions (or one) of some outputs. `step` is the distance of an output's weights.
INLINE void sums(const real *x, const real *w, long channels, long plane, long row, long step, long K,
                 const int outputs, const int tile, vec a[][4]) {
    for (long c = 0; c < channels; c++, x += plane, w += K * K)
        for (long u = 0; u < K; u++)
            for (long v = 0; v < K; v++) {
                const real *at = x + u * row + v * LANES;
                const vec x0 = load(at);
                if (tile == 1) {
#pragma GCC unroll 6
                    for (int o = 0; o < outputs; o++) a[o][0] += x0 * w[o * step + u * K + v];
                    continue;
                }
                const vec x1 = load(at + LANES), x2 = load(at + row), x3 = load(at + row + LANES);
#pragma GCC unroll 6
                for (int o = 0; o < outputs; o++) {
                    const vec weight = each(w[o * step + u * K + v]);
                    a[o][0] += x0 * weight;
                    a[o][1] += x1 * weight;
                    a[o][2] += x2 * weight;
                    a[o][3] += x3 * weight;
                }
            }
}

// The larger of a maximum so far and one more value, and which it was.
INLINE void larger(vec *most, mask *place, vec value, whole number) {
    const mask wins = (value > *most) | (value != value);
    *most = choose(wins, value, *most);
    *place = (wins & all_of(number)) | (~wins & *place);
}

// Writes some outputs of a convolution for a vector of images.
INLINE void outputs_of(const real *x, const real *w, const real *b, real *y, int8_t *which, long channels, long height,
                       long width, long K, long pool, long relu, long images, long count, const int outputs) {
    // height and width are those of the padded input
    const long rows = height - K + 1, columns = width - K + 1, row = width * LANES, plane = height * row;
    const long step = channels * K * K;
    vec a[6][4];
    if (pool) {
        const long high = rows / 2, wide = columns / 2;
        for (long i = 0; i < high; i++)
            for (long j = 0; j < wide; j++) {
#pragma GCC unroll 6
                for (int o = 0; o < outputs; o++)
                    a[o][0] = a[o][1] = a[o][2] = a[o][3] = each(b ? b[o] : 0);
                sums(x + 2 * i * row + 2 * j * LANES, w, channels, plane, row, step, K, outputs, 4, a);
#pragma GCC unroll 6
                for (int o = 0; o < outputs; o++) {
                    vec most = a[o][0];
                    mask place = all_of(0);
                    larger(&most, &place, a[o][1], 1);
                    larger(&most, &place, a[o][2], 2);
                    larger(&most, &place, a[o][3], 3);
                    if (relu) {
                        const mask cut = most <= each(0);
                        most = choose(cut, each(0), most);
                        place = (cut & all_of(4)) | (~cut & place);
                    }
                    const long at = ((o * high + i) * wide + j) * images;
                    put(y + at, most, count);
                    put_bytes(which + at, __builtin_convertvector(place, bytes), count);
                }
            }
        return;
    }
    const int tile = rows < 2 || columns < 2 ? 1 : 4;
    const long side = tile == 1 ? 1 : 2;
    for (long i = 0; i < rows; i += side)
        for (long j = 0; j < columns; j += side) {
            const long top = least(i, rows - side), left = least(j, columns - side);  // the last tile may overlap
#pragma GCC unroll 6
            for (int o = 0; o < outputs; o++) a[o][0] = a[o][1] = a[o][2] = a[o][3] = each(b ? b[o] : 0);
            if (tile == 1) sums(x + top * row + left * LANES, w, channels, plane, row, step, K, outputs, 1, a);
            else sums(x + top * row + left * LANES, w, channels, plane, row, step, K, outputs, 4, a);
#pragma GCC unroll 6
            for (int o = 0; o < outputs; o++)
                for (int t = 0; t < tile; t++) {
                    const vec value = relu ? choose(a[o][t] <= each(0), each(0), a[o][t]) : a[o][t];
                    put(y + ((o * rows + top + t / 2) * columns + left + t % 2) * images, value, count);
                }
        }
}

#define WITH_OUTPUTS(outputs)                                                                                    \
    case outputs:                                                                                                \
        if (K == 3)                                                                                              \
            outputs_of(x, wo, bo, yo, ko, channels, height, width, 3, pool, relu, images, count, outputs);       \
        else if (K == 5)                                                                                         \
            outputs_of(x, wo, bo, yo, ko, channels, height, width, 5, pool, relu, images, count, outputs);       \
        else                                                                                                     \
            outputs_of(x, wo, bo, yo, ko, channels, height, width, K, pool, relu, images, count, outputs);       \
        break;

// Writes all outputs of a group, in tiles of outputs as equal as possible.
static void convolve(const real *x, const real *w, const real *b, real *y, int8_t *which, long channels, long height,
                     long width, long outputs, long K, long pool, long relu, long images, long count) {
    const long rows = height - K + 1, columns = width - K + 1;
    const long map = (pool ? (rows / 2) * (columns / 2) : rows * columns) * images;
    const long tiles = (outputs + MOST_OUTPUTS - 1) / MOST_OUTPUTS;
    for (long t = 0; t < tiles; t++) {
        const long o = outputs * t / tiles, several = outputs * (t + 1) / tiles - o;
        const real *wo = w + o * channels * K * K, *bo = b ? b + o : NULL;
        real *yo = y + o * map;
        int8_t *ko = which ? which + o * map : NULL;
        switch (several) {
            WITH_OUTPUTS(1)
            WITH_OUTPUTS(2)
            WITH_OUTPUTS(3)
#if REGISTERS == 32
            WITH_OUTPUTS(4)
            WITH_OUTPUTS(5)
            WITH_OUTPUTS(6)
#endif
        }
    }
}

// Sums of the weight gradient: one row of a kernel, some of its taps, for some outputs.
INLINE void products(const real *x, const real *d, vec *sum, long rows, long columns, long x_row, long d_row,
                     long d_plane, long step, const int outputs, const int taps) {
    vec a[6][MOST_TAPS];
    for (int o = 0; o < outputs; o++)
        for (int t = 0; t < taps; t++) a[o][t] = each(0);
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) {
            const real *xs = x + i * x_row + j * LANES, *ds = d + i * d_row + j * LANES;
            vec of[6];
#pragma GCC unroll 6
            for (int o = 0; o < outputs; o++) of[o] = load(ds + o * d_plane);
#pragma GCC unroll 7
            for (int t = 0; t < taps; t++) {
                const vec value = load(xs + t * LANES);
#pragma GCC unroll 6
                for (int o = 0; o < outputs; o++) a[o][t] += of[o] * value;
            }
        }
    for (int o = 0; o < outputs; o++)
        for (int t = 0; t < taps; t++) sum[o * step + t] += a[o][t];
}

#define SUMS_OF(outputs, taps)                                                                                   \
    case outputs:                                                                                                \
        if ((outputs) * (taps) <= MOST_SUMS || (outputs) == 1)                                                   \
            products(xs, ds, at, rows, columns, x_row, d_row, d_plane, step, outputs, taps);                     \
        break;
#define WITH_TAPS(taps)                                                                                          \
    case taps:                                                                                                   \
        switch (several) {                                                                                       \
            SUMS_OF(1, taps) SUMS_OF(2, taps) SUMS_OF(3, taps) SUMS_OF(4, taps) SUMS_OF(5, taps) SUMS_OF(6, taps) \
        }                                                                                                        \
        break;

// Adds the weight gradient of a group for a vector of images to `sum`, a vector for each weight.
static void correlate(const real *x, const real *d, vec *sum, long channels, long outputs, long K, long rows,
                      long columns, long x_row, long x_plane, long d_row, long d_plane) {
    const long step = channels * K * K;
    const long parts = (K + MOST_TAPS - 1) / MOST_TAPS;
    for (long p = 0; p < parts; p++) {
        const long first = K * p / parts, taps = K * (p + 1) / parts - first;
        const long most = taps > MOST_SUMS / 2 ? 1 : least(6, MOST_SUMS / taps);
        const long tiles = (outputs + most - 1) / most;
        for (long t = 0; t < tiles; t++) {
            const long o = outputs * t / tiles, several = outputs * (t + 1) / tiles - o;
            const real *ds = d + o * d_plane;
            for (long c = 0; c < channels; c++)
                for (long u = 0; u < K; u++) {
                    const real *xs = x + c * x_plane + u * x_row + first * LANES;
                    vec *at = sum + ((o * channels + c) * K + u) * K + first;
                    switch (taps) {
                        WITH_TAPS(1)
                        WITH_TAPS(2)
                        WITH_TAPS(3)
                        WITH_TAPS(4)
                        WITH_TAPS(5)
                        WITH_TAPS(6)
                        WITH_TAPS(7)
                    }
                }
        }
    }
}

// Copies the gradient of what was stored into the workspace: through ReLU and pooling, with a margin of zeros.
static void copy_gradient(const real *dy, const real *y, const int8_t *which, real *to, const Convolution *s,
                          long margin, long first, long count) {
    const long rows = mapped(s->height, s), columns = mapped(s->width, s);
    const long row = (columns + 2 * margin) * LANES, plane = (rows + 2 * margin) * row;
    if (!s->pool) {
        copy_in(dy + first, to, s->outputs, rows, columns, margin, s->images, count);
        if (s->relu)
            for (long o = 0; o < s->outputs; o++)
                for (long i = 0; i < rows; i++)
                    for (long j = 0; j < columns; j++) {
                        const vec value = take(y + ((o * rows + i) * columns + j) * s->images + first, count);
                        real *at = to + o * plane + (margin + i) * row + (margin + j) * LANES;
                        store(at, choose(value <= each(0), each(0), load(at)));
                    }
        return;
    }
    for (long o = 0; o < s->outputs; o++) {
        clear_round(to + o * plane, rows + 2 * margin, columns + 2 * margin, margin, margin, rows / 2 * 2, columns / 2 * 2);
        for (long i = 0; i < rows / 2; i++)
            for (long j = 0; j < columns / 2; j++) {
                const long from = ((o * (rows / 2) + i) * (columns / 2) + j) * s->images + first;
                const vec value = take(dy + from, count);
                const mask place = __builtin_convertvector(take_bytes(which + from, count), mask);
                real *at = to + o * plane + (margin + 2 * i) * row + (margin + 2 * j) * LANES;
                store(at, choose(place == 0, value, each(0)));
                store(at + LANES, choose(place == 1, value, each(0)));
                store(at + row, choose(place == 2, value, each(0)));
                store(at + row + LANES, choose(place == 3, value, each(0)));
            }
    }
}

INLINE long margin_of(const Convolution *s, long with_input) { return with_input ? s->kernel - 1 - s->padding : 0; }

// Elements of the workspace: [forward] the padded input; [backward] that, the gradient, sums, turned weights.
static long input_size(const Convolution *s) { return s->channels * padded(s->height, s) * padded(s->width, s) * LANES; }
static long gradient_size(const Convolution *s, long with_input) {
    const long margin = 2 * margin_of(s, with_input);
    return s->outputs * (mapped(s->height, s) + margin) * (mapped(s->width, s) + margin) * LANES;
}
static long weights_size(const Convolution *s) {
    return s->outputs * (s->channels / s->groups) * s->kernel * s->kernel;
}

int64_t lanes(void) { return LANES; }
int64_t workspace(const Convolution *s, int64_t is_backward, int64_t with_input) {
    if (!is_backward) return input_size(s);
    return input_size(s) + gradient_size(s, with_input) + (weights_size(s) + s->outputs) * LANES + weights_size(s);
}

// y: [outputs][height][width][images] as stored; which: likewise, with pooling: 0 to 3, or 4 where ReLU cuts.
void forward(const Convolution *s, const real *x, const real *w, const real *b, real *y, int8_t *which, real *work) {
    const long height = padded(s->height, s), width = padded(s->width, s), K = s->kernel;
    const long channels = s->channels / s->groups, outputs = s->outputs / s->groups;
    const long map = stored(s->height, s) * stored(s->width, s) * s->images;
    for (long n = 0; n < s->images; n += LANES) {
        const long count = least(LANES, s->images - n);
        copy_in(x + n, work, s->channels, s->height, s->width, s->padding, s->images, count);
        for (long g = 0; g < s->groups; g++)
            convolve(work + g * channels * height * width * LANES, w + g * outputs * channels * K * K,
                     b ? b + g * outputs : NULL, y + g * outputs * map + n,
                     which ? which + g * outputs * map + n : NULL, channels, height, width, outputs, K, s->pool,
                     s->relu, s->images, count);
    }
}

// dx, dw and db may be NULL: no such gradient is asked for.
void backward(const Convolution *s, const real *x, const real *w, const real *y, const int8_t *which, const real *dy,
              real *dx, real *dw, real *db, real *work) {
    const long K = s->kernel, margin = margin_of(s, dx != NULL);
    const long channels = s->channels / s->groups, outputs = s->outputs / s->groups;
    const long x_row = padded(s->width, s) * LANES, x_plane = padded(s->height, s) * x_row;
    const long rows = mapped(s->height, s), columns = mapped(s->width, s);
    const long reached = s->pool ? rows / 2 * 2 : rows, wide = s->pool ? columns / 2 * 2 : columns;  // by pooling
    const long d_row = (columns + 2 * margin) * LANES, d_plane = (rows + 2 * margin) * d_row;
    real *d = work + input_size(s);
    vec *sum = (vec *)(d + gradient_size(s, dx != NULL)), *of_bias = sum + weights_size(s);
    real *turned = (real *)(of_bias + s->outputs);
    memset(sum, 0, (weights_size(s) + s->outputs) * sizeof(vec));
    if (dx)
        for (long g = 0; g < s->groups; g++)
            for (long o = 0; o < outputs; o++)
                for (long c = 0; c < channels; c++)
                    for (long t = 0; t < K * K; t++)
                        turned[((g * channels + c) * outputs + o) * K * K + K * K - 1 - t] =
                            w[((g * outputs + o) * channels + c) * K * K + t];
    for (long n = 0; n < s->images; n += LANES) {
        const long count = least(LANES, s->images - n);
        if (dw) copy_in(x + n, work, s->channels, s->height, s->width, s->padding, s->images, count);
        copy_gradient(dy, y, which, d, s, margin, n, count);
        const real *inner = d + margin * d_row + margin * LANES;
        for (long g = 0; g < s->groups; g++) {
            if (dw) correlate(work + g * channels * x_plane, inner + g * outputs * d_plane,
                          sum + g * outputs * channels * K * K, channels, outputs, K, reached, wide, x_row,
                          x_plane, d_row, d_plane);
            if (dx)
                convolve(d + g * outputs * d_plane, turned + g * channels * outputs * K * K, NULL,
                         dx + g * channels * s->height * s->width * s->images + n, NULL, outputs,
                         rows + 2 * margin, columns + 2 * margin, channels, K, 0, 0, s->images, count);
        }
        for (long o = 0; db && o < s->outputs; o++) {
            vec a = each(0);
            for (long i = 0; i < reached; i++)
                for (long j = 0; j < wide; j++) a += load(inner + o * d_plane + i * d_row + j * LANES);
            of_bias[o] += a;
        }
    }
    for (long i = 0; dw && i < weights_size(s); i++) {
        real total = 0;
        for (int k = 0; k < LANES; k++) total += sum[i][k];
        dw[i] = total;
    }
    for (long o = 0; db && o < s->outputs; o++) {
        real total = 0;
        for (int k = 0; k < LANES; k++) total += of_bias[o][k];
        db[o] = total;
    }
}
