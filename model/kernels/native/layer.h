// Owns one layer over a block of rows: projection, bias, attention to a page, output. Never knows
// which rows attend to which pages.
#pragma once

#include "model.h"

namespace mfalcon {

inline void normalise(const float* x, int n, const float* scale, const float* shift, float eps,
                      float* y) {
  if (!scale) {
    if (x != y) std::copy(x, x + n, y);
    return;
  }
  const float mean = sum(n, [&](int i, auto v) { return at<decltype(v)>(x + i); }) / n;
  const float variance = sum(n,
                             [&](int i, auto v) {
                               v = at<decltype(v)>(x + i) - mean;
                               return v * v;
                             }) /
                         n;
  const float factor = 1 / __builtin_sqrtf(variance + eps);
  for (int i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor * scale[i] + shift[i];
}

// Buckets of the spans from `now` to each event. Each walk starts where the last one ended, since
// neighbouring events are near in time.
inline void fill_buckets(const Model& m, const int64_t* times, int64_t now, int n,
                         uint8_t* bucket) {
  int b = m.num_boundaries;
  for (int j = 0; j < n; ++j) {
    const int64_t span = now < times[j] ? times[j] - now : now - times[j];
    while (b > 0 && span < m.boundaries[b - 1]) --b;
    while (b < m.num_boundaries && span >= m.boundaries[b]) ++b;
    bucket[j] = b;
  }
}

// Bias of row `row` towards keys first .. first + count - 1, for one group of heads.
inline void fill_bias(const Model& m, const Layer& l, int group, int row, const uint8_t* bucket,
                      int first, int count, float* bias) {
  const float* position = l.position + group * m.num_distances;
  const float* time = l.time + group * (m.num_boundaries + 1);
  const int farthest = m.num_distances - 1;
  for (int j = 0; j < count; ++j)
    bias[j] = position[std::min(row - first - j, farthest)] + time[bucket[first + j]];
}

// x (rows, stride) -> normed, and mixed = SiLU(normed W + b) with q scaled.
template <class Num>
void project(const Model& m, const Sizes& s, const Layer& l, const float* x, int stride, int rows,
             bool only_kv, Scratch<Num>& t, float* normed, float* mixed) {
  for (int r = 0; r < rows; ++r)
    normalise(x + r * stride, m.width, l.in_scale, l.in_shift, m.norm_eps,
              normed + r * s.normed_stride);
  const auto a = operand<Num>(normed, s.normed_stride, rows, m.width, t.rounded.get());
  const auto* panels = static_cast<const typename Num::Word*>(l.mix);
  const int k = words<Num>(m.width);
  for (int column = 0; column < s.columns; column += kWidth) {
    const int end = column + kWidth;
    const bool has_kv = (end > s.gate && column < 2 * s.gate) || end > 2 * s.gate + s.keys;
    if (only_kv && !has_kv) continue;
    float* out = mixed + column;
    multiply<Num>(rows, a, panels + column * k, k, l.mix_shift + column, 0, out, s.mixed_stride);
    if (m.gate_is_sigmoid) continue;
    for (int r = 0; r < rows; ++r, out += s.mixed_stride)
      for (int c = 0; c < kWidth; c += kLanes) store(out + c, silu<Num>(load(out + c)));
  }
  for (int r = 0; r < rows; ++r) {
    float* row = mixed + r * s.mixed_stride;
    if (m.gate_is_sigmoid)
      for (int c = 0; c < s.gate; ++c) row[c] = 1 / (1 + __builtin_expf(-row[c]));
    if (m.q_scale != 1)
      for (int c = 2 * s.gate; c < 2 * s.gate + s.keys; ++c) row[c] *= m.q_scale;
  }
}

// The queries of one head.
template <class Num>
Operand<Num> queries(const Model& m, const Sizes& s, const float* mixed, int rows, int head,
                     Scratch<Num>& t) {
  const int room = head * s.query_stride * rows;
  return operand<Num>(mixed + 2 * s.gate + head * m.qk, s.mixed_stride, rows, m.qk,
                      t.queries.get() + room);
}

// attended += SiLU(q K + bias) V over the first `count` rows of some pages, or as many as each row
// can see. Strips of pages, so that sums over V stay in registers for longer.
template <class Num>
void attend_strip(const Model& m, const Sizes& s, const User& user, int layer, int head, int first,
                  int count, Operand<Num> q, int rows, const float* bias, int bias_stride,
                  const int* visible, Scratch<Num>& t, float* attended) {
  float* weights = t.weights.get();
  const typename Num::Word* values[kStripPages];
  for (int p = 0; p * kWidth < count; ++p) {
    const Block<Num> page(m, user.pages[first / kWidth + p], layer, head);
    values[p] = page.values;
    multiply<Num>(rows, q, page.keys, words<Num>(m.qk), bias + p * kWidth, bias_stride,
                  weights + p * kWidth, kStrip);
  }
  const int end = words<Num>(count) * Num::kPer;  // an odd last row has a partner
  for (int r = 0; r < rows; ++r) {
    float* row = weights + r * kStrip;
    for (int j = 0; j < count; j += kLanes) store(row + j, silu<Num>(load(row + j)));
    for (int j = visible ? visible[r] : count; j < end; ++j) row[j] = 0;
  }
  const auto w = operand<Num>(weights, kStrip, rows, kStrip, t.rounded.get());
  for (int column = 0; column < m.v; column += kWidth) {
    float* sum = attended + head * s.head_v + column;
    multiply<Num>(rows, w, {values, m.v, words<Num>(kWidth), words<Num>(count)}, column, sum,
                  s.attended_stride, sum, s.attended_stride);
  }
}

// The gate, the output projection and the residual -> x (rows, stride), which may be `base`.
template <class Num>
void finish(const Model& m, const Sizes& s, const Layer& l, const float* base, int base_stride,
            const float* mixed, const float* attended, const float* divisor, int rows,
            Scratch<Num>& t, float* x, int stride) {
  for (int r = 0; r < rows; ++r) {
    const float* u = mixed + r * s.mixed_stride;
    float* gated = t.gated.get() + r * s.gated_stride;
    float* plain = m.output_is_concatenated ? gated + s.gate : gated;
    const float factor = 1 / divisor[r];
    for (int h = 0; h < m.heads; ++h)
      for (int c = 0; c < m.v; ++c)
        plain[h * m.v + c] = attended[r * s.attended_stride + h * s.head_v + c] * factor;
    normalise(plain, s.gate, l.attention_scale, l.attention_shift, m.norm_eps, plain);
    if (m.output_is_concatenated) std::copy_n(u, s.gate, gated);
    float* product = m.output_is_concatenated ? gated + 2 * s.gate : gated;
    for (int c = 0; c < s.gate; ++c) product[c] = u[c] * plain[c];
  }
  const auto a = operand<Num>(t.gated.get(), s.gated_stride, rows, s.inner, t.rounded.get());
  const auto* panels = static_cast<const typename Num::Word*>(l.out);
  const int k = words<Num>(s.inner);
  float* part = t.weights.get();  // (rows, 32)
  for (int column = 0; column < m.width; column += kWidth) {
    const int count = std::min(kWidth, m.width - column);
    if (panels)
      multiply<Num>(rows, a, panels + column * k, k, l.out_shift + column, 0, part, kWidth);
    else
      for (int r = 0; r < rows; ++r)
        std::copy_n(t.gated.get() + r * s.gated_stride + column, count, part + r * kWidth);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < count; ++c)
        x[r * stride + column + c] = base[r * base_stride + column + c] + part[r * kWidth + c];
  }
}

}  // namespace mfalcon
