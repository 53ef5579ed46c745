// Owns the arithmetic of one tile: the vector type, SiLU, and C += A B for a few rows.
// Never knows what the numbers mean. Written in GCC and Clang vector extensions, so one source
// serves every width; wider machines only change the constants below.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace mfalcon {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 12;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTileRows = 6;
#else
constexpr int kLanes = 4, kTileRows = 6;
#endif

constexpr int kWidth = 32;                      // columns of a panel, and rows of a page
constexpr int kTileColumns = 2 * kLanes;        // columns of C held in registers
constexpr int kAhead = 16;                      // rows of B fetched into the cache ahead of use

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// 1 / (1 + exp(-x)), within 2 units in the last place: exp as 2^n times a polynomial in what is left
// of -x / ln 2, with the coefficients of Cephes' expf. Beyond +-87 it stays what it is there.
inline Vec sigmoid(Vec x) {
  const Vec limit = Vec{} + 87.0f;
#if defined(__AVX512F__)
  const Vec y = (Vec)_mm512_max_ps(_mm512_min_ps((__m512)-x, (__m512)limit), (__m512)-limit);
#else
  Vec y = -x > limit ? limit : -x;
  y = y < -limit ? -limit : y;
#endif
  const Vec magic = Vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = y * 1.44269504088896341f + magic;
  const Vec n = shifted - magic;
  Vec r = y - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = Vec{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Vec sum = 1.0f + (Vec)(((IntVec)shifted << 23) + (IntVec)p);
#if defined(__AVX512F__)
  const Vec guess = (Vec)_mm512_rcp14_ps((__m512)sum);
  return guess * (2.0f - sum * guess);
#else
  return 1.0f / sum;
#endif
}

inline Vec silu(Vec x) { return x * sigmoid(x); }

// C (R, 32) = S + A (R, k) B (k, 32), row strides in numbers; S may be C, or one row with stride 0.
// S is added last: a long sum that is carried on product by product would lose more to rounding.
// Not inlined: surrounded by other code the compiler keeps sums in memory.
template <int R>
__attribute__((noinline)) void tile(const float* a, long lda, const float* b, long ldb, int k,
                                    const float* s, long lds, float* c, long ldc) {
  for (int column = 0; column < kWidth; column += kTileColumns) {
    Vec sum[R][2] = {};
    const float* row = b + column;
    const float* left = a;
    for (int i = 0; i < k; ++i, row += ldb, ++left) {
      const Vec b0 = load(row), b1 = load(row + kLanes);
      __builtin_prefetch(row + kAhead * ldb);
      __builtin_prefetch(row + kAhead * ldb + kLanes);
      const float* factor = left;  // of every third row: fewer addresses than registers
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const float f = factor[(r % 3) * lda];
        sum[r][0] += f * b0;
        sum[r][1] += f * b1;
        if (r % 3 == 2) factor += 3 * lda;
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 2; ++v) {
        const long at = column + v * kLanes;
        store(c + r * ldc + at, load(s + r * lds + at) + sum[r][v]);
      }
  }
}

template <int R>
void tiles(int rows, const float* a, long lda, const float* b, long ldb, int k, const float* s,
           long lds, float* c, long ldc) {
  for (; rows >= R; rows -= R, a += R * lda, s += R * lds, c += R * ldc)
    tile<R>(a, lda, b, ldb, k, s, lds, c, ldc);
  if constexpr (R > 1) {
    if (rows) tiles<R - 1>(rows, a, lda, b, ldb, k, s, lds, c, ldc);
  }
}

// The same for any number of rows. A row's sum does not depend on how many there are.
inline void multiply(int rows, const float* a, long lda, const float* b, long ldb, int k,
                     const float* s, long lds, float* c, long ldc) {
  tiles<kTileRows>(rows, a, lda, b, ldb, k, s, lds, c, ldc);
}

}  // namespace mfalcon
