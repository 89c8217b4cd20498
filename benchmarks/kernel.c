/* The hardware's reference: the arithmetic of heatbath written by hand for the vector units.
 *
 * The same stream (Threefry-2x32-20, Box and Muller, the same polynomials) and the same steps on the double well
 * U = barrier (x^2 - 1)^2 + tilt x, an even number of them from step 0. One block of the stream gives the normals of two
 * steps, so noise never goes through memory, and a chunk of particles stays in the first-level cache for all steps.
 * Vectors are LANES wide, several registers: Threefry is one chain of dependent operations, and only chains that are
 * interleaved fill the units (on AVX2: 8 lanes 910, 16 lanes 1,080, 32 lanes 1,490 million coordinate-steps a second;
 * the plain loop left to the compiler 890; on AVX-512 64 lanes, 1.1 times as fast as 32). Coordinates are independent;
 * the state is x[coordinate * n + particle], and n must be a multiple of LANES.
 */
#include <math.h>
#include <stdint.h>
#ifdef __AVX__
#include <immintrin.h>
#define MINIMUM(x, part, y) ((__m256_u *)&x)[part] = _mm256_min_ps(((__m256_u *)&x)[part], _mm256_set1_ps(y));
#define ROOT(y, x, part) ((__m256_u *)&y)[part] = _mm256_sqrt_ps(((const __m256_u *)&x)[part]);
#else
#define MINIMUM(x, part, y) for (int lane = 8 * part; lane < 8 * part + 8; lane++) x[lane] = fminf(x[lane], y);
#define ROOT(y, x, part) for (int lane = 8 * part; lane < 8 * part + 8; lane++) y[lane] = sqrtf(x[lane]);
#endif

#ifdef __AVX512F__
#define LANES 64
#else
#define LANES 32
#endif
#define CHUNK 512

typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4)));

#define ROTATE(x, r) (((x) << (r)) | ((x) >> (32 - (r))))
#define ROUND(r)                                                                                                       \
    a += b;                                                                                                            \
    b = a ^ ROTATE(b, r);
#define FIRST ROUND(13) ROUND(15) ROUND(26) ROUND(6)
#define SECOND ROUND(17) ROUND(29) ROUND(16) ROUND(24)
#define THREEFRY                                                                                                       \
    const uint32_t k2 = k0 ^ k1 ^ 0x1BD11BDAu;                                                                         \
    a += k0; b += k1;                                                                                                  \
    FIRST a += k1; b += k2 + 1;                                                                                        \
    SECOND a += k2; b += k0 + 2;                                                                                       \
    FIRST a += k0; b += k1 + 3;                                                                                        \
    SECOND a += k1; b += k2 + 4;                                                                                       \
    FIRST a += k2; b += k0 + 5;

static void key_of(uint32_t k0, uint32_t k1, uint64_t counter, uint32_t *key)
{
    uint32_t a = (uint32_t)counter, b = (uint32_t)(counter >> 32);
    THREEFRY
    key[0] = a;
    key[1] = b;
}

static const uint32_t LANE[64] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
    48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
};

/* Two normals for each particle from `first` on. */
static inline __attribute__((always_inline)) void normals(uint32_t k0, uint32_t k1, uint32_t first, uint32_t coordinate,
                                                          Floats *even, Floats *odd)
{
    Words a = *(const Words *)LANE + first;
    Words b = (Words){0} + coordinate;
    THREEFRY
    /* high and low half are converted apart: AVX2 has no conversion of unsigned words */
    const Floats high = __builtin_convertvector((Integers)(a >> 16), Floats) * 65536.0f;
    Floats u = (high + __builtin_convertvector((Integers)(a & 0xFFFFu), Floats) + 0.5f) * 0x1p-32f;
    for (int part = 0; part < LANES / 8; part++) /* a comparison of whole vectors would be taken apart */
        MINIMUM(u, part, 1.0f - 0x1p-24f)
    const Floats v = __builtin_convertvector((Integers)b, Floats) * 0x1p-32f, w = v * v;
    /* -2 log u */
    const Integers shifted = (Integers)u - 0x3F3504F3;
    const Floats exponent = __builtin_convertvector(shifted >> 23, Floats);
    const Floats t = (Floats)((shifted & 0x007FFFFF) + 0x3F3504F3) - 1.0f;
    Floats tail = t * 7.0376836292e-2f - 1.1514610310e-1f;
    tail = tail * t + 1.1676998740e-1f;
    tail = tail * t - 1.2420140846e-1f;
    tail = tail * t + 1.4249322787e-1f;
    tail = tail * t - 1.6668057665e-1f;
    tail = tail * t + 2.0000714765e-1f;
    tail = tail * t - 2.4999993993e-1f;
    tail = tail * t + 3.3333331174e-1f;
    const Floats square = t * t;
    const Floats twice = -2.0f * ((t - 0.5f * square + square * t * tail) + exponent * 0.69314718f);
    Floats radius;
    for (int part = 0; part < LANES / 8; part++) ROOT(radius, twice, part)
    Floats s = w * -7.0064874208e-03f + 8.2035553979e-02f, c = w * -2.4396716703e-02f + 2.3493755902e-01f;
    s = s * w - 5.9924855872e-01f;
    s = s * w + 2.5501629330e+00f;
    s = s * w - 5.1677127483e+00f;
    s = s * w + 3.1415926534e+00f;
    c = c * w - 1.3352120567e+00f;
    c = c * w + 4.0587091643e+00f;
    c = c * w - 4.9348021372e+00f;
    c = c * w + 9.9999999978e-01f;
    *even = radius * (Floats)((Words)c ^ (b << 31));
    *odd = radius * v * s;
}

#define GRADIENT(x) (4.0f * barrier * (x) * ((x) * (x) - 1.0f) + tilt)
#define CHUNKS ((n + CHUNK - 1) / CHUNK) /* of a coordinate */
#define PLACE                                                                                                          \
    const int64_t coordinate = i / CHUNKS, first = i % CHUNKS * CHUNK;                                                 \
    const int vectors = (int)((n - first < CHUNK ? n - first : CHUNK) / LANES);                                        \
    Floats *const position = (Floats *)(x + coordinate * n + first);

void overdamped(float *x, int64_t n, int64_t d, int64_t steps, uint32_t seed, uint32_t stream, float barrier, float tilt,
                float h, float amplitude)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < d * CHUNKS; i++) {
        PLACE
        for (int64_t pair = 0; pair < steps / 2; pair++) {
            uint32_t key[2];
            key_of(seed, stream, (uint64_t)pair, key);
            for (int j = 0; j < vectors; j++) {
                Floats even, odd, y = position[j];
                normals(key[0], key[1], (uint32_t)(first + j * LANES), (uint32_t)coordinate, &even, &odd);
                y = y - h * GRADIENT(y) + amplitude * even;
                y = y - h * GRADIENT(y) + amplitude * odd;
                position[j] = y;
            }
        }
    }
}

/* One BAOAB step of mass 1; g is the cached gradient. */
#define STEP(xi)                                                                                                       \
    q = q - half * g;                                                                                                  \
    y = y + half * q;                                                                                                  \
    q = q + loss * q + amplitude * (xi);                                                                               \
    y = y + half * q;                                                                                                  \
    g = GRADIENT(y);                                                                                                   \
    q = q - half * g;

void baoab(float *x, float *p, int64_t n, int64_t d, int64_t steps, uint32_t seed, uint32_t stream, float barrier,
           float tilt, float half, float loss, float amplitude)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < d * CHUNKS; i++) {
        PLACE
        Floats *const momentum = (Floats *)(p + coordinate * n + first);
        Floats force[CHUNK / LANES];
        for (int j = 0; j < vectors; j++) force[j] = GRADIENT(position[j]);
        for (int64_t pair = 0; pair < steps / 2; pair++) {
            uint32_t key[2];
            key_of(seed, stream, (uint64_t)pair, key);
            for (int j = 0; j < vectors; j++) {
                Floats even, odd, y = position[j], q = momentum[j], g = force[j];
                normals(key[0], key[1], (uint32_t)(first + j * LANES), (uint32_t)coordinate, &even, &odd);
                STEP(even)
                STEP(odd)
                position[j] = y;
                momentum[j] = q;
                force[j] = g;
            }
        }
    }
}
