// Owns the arithmetic of one tile: vectors, SiLU, and C = S + A B for a few rows.
// Never knows what the numbers mean. Written in GCC and Clang vector extensions, so one source
// serves every width; wider machines only change the constants.
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

constexpr int kWidth = 32;                // columns of a panel, and rows of a page
constexpr int kTileColumns = 2 * kLanes;  // columns of C held in registers
constexpr int kAhead = 16;                // rows of B fetched into the cache ahead of use

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// What is at p, of a type.
template <class T>
inline T at(const float* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// The numbers that are multiplied. A word of 32 bits holds kPer of them, neighbours along the
// dimension that a product sums over; sums are float32.
struct Float32 {
  using Number = float;
  using Word = float;
  static constexpr int kPer = 1;
  static Number round(float x) { return x; }
};

struct BFloat16 {
  using Number = uint16_t;
  using Word = uint32_t;
  static constexpr int kPer = 2;
  static Number round(float x) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }
};

// Words of `n` numbers.
template <class Num>
constexpr int words(int n) {
  return (n + Num::kPer - 1) / Num::kPer;
}

// 1 / (1 + exp(-x)): exp as 2^n times a polynomial in what is left of -x / ln 2. Within 2 units in
// the last place, with the coefficients of Cephes' expf; where the result is rounded to bfloat16,
// within 2^-13. Beyond +-87 it stays what it is there.
template <class Num>
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
  Vec p;
  if constexpr (Num::kPer == 1) {
    p = Vec{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
  } else {
    p = r * 4.1665795894e-2f + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
  }
  p = p * (r * r) + r + 1.0f;
  const Vec sum = 1.0f + (Vec)(((IntVec)shifted << 23) + (IntVec)p);
#if defined(__AVX512F__)
  const Vec guess = (Vec)_mm512_rcp14_ps((__m512)sum);
  return Num::kPer == 1 ? guess * (2.0f - sum * guess) : guess;
#else
  return 1.0f / sum;
#endif
}

template <class Num>
inline Vec silu(Vec x) {
  return x * sigmoid<Num>(x);
}

// The sum of term(i) over 0 .. n - 1, which takes the type it works on: a vector from i on, or one
// number. Spelt out, since a compiler that may reorder sums reorders them differently where a loop
// is inlined, and a row's result must not depend on its place in a block.
template <class Term>
inline float sum(int n, Term term) {
  Vec lanes = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) lanes += term(i, Vec{});
  float part[kLanes];
  store(part, lanes);
  for (int half = kLanes / 2; half; half /= 2)
    for (int lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
  float total = part[0];
  for (; i < n; ++i) total += term(i, 0.0f);
  return total;
}

// B (k, 32) in pieces of `step` rows, the last one shorter; k and strides in words.
template <class Word>
struct Pieces {
  const Word* const* at;
  long stride;
  int step, k;
};

// C (R, 32) = S + A (R, k) B (k, 32), all strides in words or numbers of C. S may be C, or one row
// with stride 0; it is added last, since a long sum that is carried on product by product would
// lose more to rounding. Not inlined: surrounded by other code the compiler keeps sums in memory.
template <int R>
__attribute__((noinline)) void tile(const float* a, long lda, Pieces<float> b, long column_of_b,
                                    const float* s, long lds, float* c, long ldc) {
  const long ldb = b.stride;
  for (int column = 0; column < kWidth; column += kTileColumns) {
    Vec sum[R][2] = {};
    for (int i = 0; i < b.k;) {
      const float* row = b.at[i / b.step] + column_of_b + column;
      for (const int end = i + b.step < b.k ? i + b.step : b.k; i < end; ++i, row += ldb) {
        const Vec b0 = load(row), b1 = load(row + kLanes);
        __builtin_prefetch(row + kAhead * ldb);
        __builtin_prefetch(row + kAhead * ldb + kLanes);
        const float* factor = a + i;  // of every third row: fewer addresses than registers
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const float f = factor[(r % 3) * lda];
          sum[r][0] += f * b0;
          sum[r][1] += f * b1;
          if (r % 3 == 2) factor += 3 * lda;
        }
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

#if defined(__AVX512F__)
#define MFALCON_BF16 1
#define MFALCON_BF16_CODE __attribute__((noinline, target("avx512f,avx512bf16")))

// The same with pairs of bfloat16.
template <int R>
MFALCON_BF16_CODE void tile(const uint32_t* a, long lda, Pieces<uint32_t> b, long column_of_b,
                            const float* s, long lds, float* c, long ldc) {
  const long ldb = b.stride;
  __m512 sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int i = 0; i < b.k;) {
    const uint32_t* row = b.at[i / b.step] + column_of_b;
    for (const int end = i + b.step < b.k ? i + b.step : b.k; i < end; ++i, row += ldb) {
      const __m512bh b0 = (__m512bh)_mm512_loadu_si512(row);
      const __m512bh b1 = (__m512bh)_mm512_loadu_si512(row + 16);
      __builtin_prefetch(row + kAhead * ldb);
      __builtin_prefetch(row + kAhead * ldb + 16);
      const uint32_t* pair = a + i;
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const __m512bh f = (__m512bh)_mm512_set1_epi32(pair[(r % 3) * lda]);
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], f, b0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], f, b1);
        if (r % 3 == 2) pair += 3 * lda;
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < 2; ++v) {
      const __m512 before = _mm512_loadu_ps(s + r * lds + v * 16);
      _mm512_storeu_ps(c + r * ldc + v * 16, _mm512_add_ps(before, sum[r][v]));
    }
}

// n numbers rounded into pairs; reads up to the next multiple of 16, and pairs an odd last with 0.
MFALCON_BF16_CODE inline void round_row(const float* x, int n, uint32_t* out) {
  for (int i = 0; i < n; i += 16) {
    const __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
    std::memcpy(out + i / 2, &half, sizeof half);
  }
  if (n % 2) out[n / 2] &= 0xffff;
}
#endif

template <int R, class Word>
void tiles(int rows, const Word* a, long lda, Pieces<Word> b, long column, const float* s, long lds,
           float* c, long ldc) {
  for (; rows >= R; rows -= R, a += R * lda, s += R * lds, c += R * ldc)
    tile<R>(a, lda, b, column, s, lds, c, ldc);
  if constexpr (R > 1) {
    if (rows) tiles<R - 1>(rows, a, lda, b, column, s, lds, c, ldc);
  }
}

// Rows of A, and the distance between two of them in words.
template <class Num>
struct Operand {
  const typename Num::Word* at;
  long stride;
};

// The same for any number of rows, from a column of B on. A row's sum does not depend on how many
// rows there are.
template <class Num>
void multiply(int rows, Operand<Num> a, Pieces<typename Num::Word> b, long column, const float* s,
              long lds, float* c, long ldc) {
  tiles<kTileRows>(rows, a.at, a.stride, b, column, s, lds, c, ldc);
}

// The same for one panel (k, 32).
template <class Num>
void multiply(int rows, Operand<Num> a, const typename Num::Word* panel, int k, const float* s,
              long lds, float* c, long ldc) {
  multiply<Num>(rows, a, {&panel, kWidth, k, k}, 0, s, lds, c, ldc);
}

}  // namespace mfalcon
