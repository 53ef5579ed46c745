// Owns what crosses into the library, and the sizes and memory that follow from it. The records are
// those of `records.py`, field by field.
//
// A page holds up to 32 rows of one user: for every layer and head the keys as a panel (K, 32),
// then the values as (32, V), both in words along the dimension that a product sums over. So they
// are operands of `multiply` as they lie, and history is never copied.
#pragma once

#include <algorithm>
#include <memory>

#include "tile.h"

namespace mfalcon {

extern "C" {

struct Layer {
  const float *in_scale, *in_shift;  // (D); null: no norm
  const void* mix;                   // (C / 32, D, 32) panels of the columns u, v, q, k
  const float* mix_shift;            // (C)
  const float *attention_scale, *attention_shift;  // (H V); null: no norm
  const void* out;                                 // (Dp / 32, O, 32) panels; null: unprojected
  const float* out_shift;                          // (Dp)
  const float* position;                           // (G, num_distances)
  const float* time;                               // (G, num_boundaries + 1)
};

struct Model {
  int32_t num_layers, width, heads, qk, v, bias_heads, num_distances, num_boundaries;
  int32_t gate_is_sigmoid, residual_is_normed, output_is_concatenated, query_is_next;
  int32_t is_bfloat16;
  float norm_eps, q_scale, divisor;  // divisor 0: the number of keys a row sees
  const int64_t* boundaries;         // first second of each time bucket past bucket 0
  const Layer* layers;
  // What is around the layers:
  int64_t num_items;
  int32_t rows_per_item;  // 1, or a row for each of an item's actions
  int32_t num_actions, num_positions, num_age_boundaries, num_logits, query_width;
  int32_t positions_from_end, query_is_unit;
  float item_scale, similarity_eps;
  const float *items, *actions, *positions, *ages;  // (.., D); null: not added
  const int64_t* age_boundaries;                    // first second of each bucket past bucket 0
  const float *final_scale, *final_shift;           // (D); null: no norm
  const float *hidden, *hidden_shift;               // (Dp / 32, D, 32) panels; (Dp)
  const float *logits, *logits_shift;               // (Cp / 32, D, 32) panels; (Cp)
};

struct User {
  void* const* pages;
  const int64_t* times;    // (num_events) Unix seconds
  const int64_t* items;    // (num_events), or the candidates (num_rows)
  const int64_t* actions;  // (num_events)
  float* out;              // logits of the candidates (num_rows, C), or a query (query_width)
  int64_t now;             // time of the request
  int32_t num_events;
  int32_t start, stop;  // event rows that are run
  int32_t first;        // of this user's rows among all
  int32_t num_rows;
  int32_t is_live;  // the last row's output is wanted
};
}

constexpr int kStripPages = 4;
constexpr int kStrip = kStripPages * kWidth;  // keys that are attended to together

inline int padded(int n) { return (n + kWidth - 1) / kWidth * kWidth; }

// A row stride for `n` numbers: an odd number of half panels, so that rows spread over the cache.
inline int strided(int n) { return padded(n) + kWidth / 2; }

struct Sizes {
  int width, gate, keys, columns, head_v, inner;
  int normed_stride, mixed_stride, attended_stride, gated_stride, query_stride;
  explicit Sizes(const Model& m)
      : width(padded(m.width)),
        gate(m.heads * m.v),
        keys(m.heads * m.qk),
        columns(padded(2 * (gate + keys))),
        head_v(padded(m.v)),
        inner(m.output_is_concatenated ? 3 * gate : gate),
        normed_stride(strided(m.width)),
        mixed_stride(strided(columns)),
        attended_stride(strided(m.heads * head_v)),
        gated_stride(strided(inner)),
        query_stride(strided(m.qk)) {}
};

// Memory that is written before it is read.
template <class T>
using Buffer = std::unique_ptr<T[]>;

template <class T = float>
Buffer<T> buffer(size_t n) {
  return Buffer<T>(new T[n]);
}

// What one thread works in, for blocks of at most `rows` rows.
template <class Num>
struct Scratch {
  Buffer<float> normed, mixed, attended, gated, weights, bias;
  Buffer<uint8_t> bucket;
  Buffer<typename Num::Word> rounded, queries;  // of bfloat16 alone

  Scratch(const Model& m, const Sizes& s, int rows, int num_events)
      : normed(buffer(rows * s.normed_stride)),
        mixed(buffer(rows * s.mixed_stride)),
        attended(buffer(rows * s.attended_stride)),
        gated(buffer(rows * s.gated_stride)),
        weights(buffer(rows * kStrip)),
        bias(buffer(rows * kStrip)),
        bucket(buffer<uint8_t>(num_events)) {
    if (Num::kPer > 1) {
      rounded =
          buffer<typename Num::Word>(rows * std::max({s.normed_stride, s.gated_stride, kStrip}));
      queries = buffer<typename Num::Word>(rows * m.heads * s.query_stride);
    }
  }
};

// `n` numbers of each row as they are multiplied: as they lie, or rounded into `room`.
template <class Num>
Operand<Num> operand(const float* x, long stride, int rows, int n, typename Num::Word* room) {
  if constexpr (Num::kPer == 1) {
    return {x, stride};
  } else {
#if defined(MFALCON_BF16)
    if (stride == n) {  // one long row
      round_row(x, rows * n, room);
      return {room, words<Num>(n)};
    }
    const long to = words<Num>(strided(n));
    for (int r = 0; r < rows; ++r) round_row(x + r * stride, n, room + r * to);
    return {room, to};
#endif
  }
}

// The keys and the values of one layer and head in a page.
template <class Num>
struct Block {
  typename Num::Word *keys, *values;

  Block(const Model& m, void* page, int layer, int head) {
    const int size = kWidth * words<Num>(m.qk) + words<Num>(kWidth) * m.v;
    keys = static_cast<typename Num::Word*>(page) + (layer * m.heads + head) * size;
    values = keys + kWidth * words<Num>(m.qk);
  }
};

}  // namespace mfalcon
