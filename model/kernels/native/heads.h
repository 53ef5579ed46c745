// Owns what is around the layers: the input row of an item, and what is read off an output row.
// Always in float32, as the network itself does it.
#pragma once

#include "layer.h"

namespace mfalcon {

constexpr int64_t kNoAction = 0;

// Whether the tables have such a row.
inline bool is_known(const Model& m, int64_t item, int64_t action) {
  const bool reads_actions = m.actions || m.rows_per_item > 1;
  return item >= 0 && item < m.num_items && action >= 0 &&
         (!reads_actions || action < m.num_actions);
}

// `place` is where it stands in the history, and `ages` the embedding of its age or null -> x (D).
inline void embed(const Model& m, int64_t item, int64_t action, int place, const float* ages,
                  float* x) {
  const float* row = m.items + (item * m.rows_per_item + action % m.rows_per_item) * m.width;
  for (int c = 0; c < m.width; ++c) x[c] = row[c] * m.item_scale;
  const auto add = [&](const float* part) {
    for (int c = 0; part && c < m.width; ++c) x[c] += part[c];
  };
  add(m.actions ? m.actions + action * m.width : nullptr);
  place = std::min(place, m.num_positions - 1);
  add(m.positions ? m.positions + place * m.width : nullptr);
  add(ages);
}

// A candidate after the whole history.
inline void embed_candidate(const Model& m, const User& user, int64_t item, float* x) {
  embed(m, item, kNoAction, user.num_events, nullptr, x);
}

inline void embed_event(const Model& m, const User& user, int event, float* x) {
  const float* ages = nullptr;
  if (m.ages) {
    const int64_t* end = m.age_boundaries + m.num_age_boundaries;
    const int64_t age = std::max<int64_t>(user.now - user.times[event], 0);
    ages = m.ages + (std::upper_bound(m.age_boundaries, end, age) - m.age_boundaries) * m.width;
  }
  const int place = m.positions_from_end ? user.num_events - 1 - event : event;
  embed(m, user.items[event], user.actions[event], place, ages, x);
}

// The output of an event row (D), which is overwritten -> a query as the retrieval head takes it.
inline void read_query(const Model& m, float* x, float* query) {
  normalise(x, m.width, m.final_scale, m.final_shift, m.norm_eps, x);
  float length = 1;
  if (m.query_is_unit) {
    const float square = sum(m.width, [&](int c, auto v) {
      v = at<decltype(v)>(x + c);
      return v * v;
    });
    length = std::max(__builtin_sqrtf(square), m.similarity_eps);
  }
  for (int c = 0; c < m.width; ++c) query[c] = x[c] / length;
  for (int c = m.width; c < m.query_width; ++c) query[c] = 1;
}

// Outputs of candidates x (rows, stride), which are overwritten -> logits (rows, C).
template <class Num>
void read_logits(const Model& m, const Sizes& s, float* x, int stride, int rows, Scratch<Num>& t,
                 float* logits) {
  float* normed = t.normed.get();
  for (int r = 0; r < rows; ++r)
    normalise(x + r * stride, m.width, m.final_scale, m.final_shift, m.norm_eps,
              normed + r * s.normed_stride);
  const Operand<Float32> in = {normed, s.normed_stride}, hidden = {x, stride};
  for (int column = 0; column < m.width; column += kWidth) {
    float* out = x + column;
    multiply<Float32>(rows, in, m.hidden + column * m.width, m.width, m.hidden_shift + column, 0,
                      out, stride);
    for (int r = 0; r < rows; ++r, out += stride)
      for (int c = 0; c < kWidth; c += kLanes) store(out + c, silu<Float32>(load(out + c)));
  }
  float* part = t.weights.get();  // (rows, 32)
  for (int column = 0; column < m.num_logits; column += kWidth) {
    multiply<Float32>(rows, hidden, m.logits + column * m.width, m.width, m.logits_shift + column,
                      0, part, kWidth);
    for (int r = 0; r < rows; ++r)
      std::copy_n(part + r * kWidth, std::min(kWidth, m.num_logits - column),
                  logits + r * m.num_logits + column);
  }
}

}  // namespace mfalcon
